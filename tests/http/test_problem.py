from __future__ import annotations

import re
from datetime import timedelta

import pytest
from flask import Flask, request
from werkzeug.exceptions import default_exceptions

from chassis.errors import (
    AppError,
    Conflict,
    FieldError,
    Forbidden,
    InvalidRequest,
    NotFound,
    PreconditionFailed,
    Unauthenticated,
    Unavailable,
    UnsupportedMediaType,
)
from chassis.http import headers
from chassis.http.layers import wrap
from chassis.http.problem import names_of, register_error_handlers

ERRORS = [
    (InvalidRequest, 400, "invalid_request"),
    (Unauthenticated, 401, "unauthenticated"),
    (Forbidden, 403, "forbidden"),
    (NotFound, 404, "not_found"),
    (Conflict, 409, "conflict"),
    (PreconditionFailed, 412, "precondition_failed"),
    (UnsupportedMediaType, 415, "unsupported_media_type"),
    (AppError, 500, "internal_error"),
    (Unavailable, 503, "unavailable"),
]


@pytest.fixture
def answer_to():
    """Return a call that gives the answer to a request whose view raises an error."""

    def get(error, path="/", members=None, **options):
        app = Flask(__name__)
        register_error_handlers(app, members)
        wrap(app, [headers.layer])

        @app.before_request
        def fail():
            raise error

        return app.test_client().get(path, **options)

    return get


@pytest.mark.parametrize(("error", "status", "code"), ERRORS)
def test_every_expected_failure_has_its_status_and_code(answer_to, error, status, code):
    response = answer_to(error())

    assert response.status_code == response.json["status"] == status
    assert response.content_type == "application/problem+json"
    assert response.json["code"] == code
    assert response.json["type"] == f"/problems/{code.replace('_', '-')}"
    assert response.json["title"] == response.json["detail"] == error.title


def test_words_given_to_a_failure_reach_the_caller_and_the_title_stays(answer_to):
    response = answer_to(Conflict("Two of them"))

    assert response.json["detail"] == response.json["error"] == "Two of them"
    assert response.json["title"] == "Conflict"


def test_wrong_members_are_listed_with_pointers(answer_to):
    errors = [FieldError("/email", "Email is required"), FieldError("/name", "Name is required")]

    response = answer_to(InvalidRequest("Email is required", errors=errors))

    assert response.json["errors"] == [
        {"pointer": "/email", "detail": "Email is required"},
        {"pointer": "/name", "detail": "Name is required"},
    ]


@pytest.mark.parametrize(("seconds", "header"), [(1, "1"), (7, "7"), (0.2, "1"), (1.6, "2")])
def test_the_time_to_wait_is_told_in_whole_seconds(answer_to, seconds, header):
    response = answer_to(Unavailable(retry_after=timedelta(seconds=seconds)))

    assert response.headers["Retry-After"] == header


def test_missing_credentials_come_with_a_challenge(answer_to):
    assert answer_to(Unauthenticated()).headers["WWW-Authenticate"].startswith("Bearer realm=")


@pytest.mark.parametrize("status", sorted(set(default_exceptions) - {500}))
def test_a_status_that_flask_answers_by_itself_is_a_problem_too(answer_to, status):
    response = answer_to(default_exceptions[status]())

    assert response.status_code == response.json["status"] == status
    assert response.content_type == "application/problem+json"
    assert response.json["title"]
    assert re.fullmatch("[a-z]+(_[a-z]+)*", response.json["code"])


@pytest.mark.parametrize(
    ("status", "title", "code"),
    [
        (404, "Not Found", "not_found"),
        (413, "Content Too Large", "content_too_large"),
        (414, "URI Too Long", "uri_too_long"),
        (416, "Range Not Satisfiable", "range_not_satisfiable"),
        (418, "I'm a Teapot", "im_a_teapot"),
        (422, "Unprocessable Content", "unprocessable_content"),
        (505, "HTTP Version Not Supported", "http_version_not_supported"),
    ],
)
def test_codes_are_the_same_whatever_python_calls_a_status(status, title, code):
    assert names_of(status) == (title, code)


def test_a_bug_shows_nothing_of_itself_and_is_logged_with_its_trace(answer_to, caplog):
    response = answer_to(ZeroDivisionError("the inside"))

    assert response.status_code == 500
    assert response.json["error"] == "Internal server error"
    assert response.json["code"] == "internal_error"
    assert "inside" not in response.text
    (record,) = (each for each in caplog.records if each.exc_info)
    assert record.name == "chassis.http.problem"
    assert record.error_type == "ZeroDivisionError"


def test_an_outage_is_logged_as_a_warning(answer_to, caplog):
    answer_to(Unavailable())

    (record,) = (each for each in caplog.records if each.name == "chassis.http.problem")
    assert record.levelname == "WARNING"
    assert record.code == "unavailable"


def test_a_failure_that_the_caller_made_is_not_logged(answer_to, caplog):
    answer_to(InvalidRequest("Email is required"))

    assert [each for each in caplog.records if each.name == "chassis.http.problem"] == []


@pytest.mark.parametrize("path", ["/a", "/%00", "/%22%0d%0a", "/ü", "/%ff", "/" + "x" * 5000])
def test_the_instance_is_the_path_whatever_it_holds(answer_to, path):
    response = answer_to(NotFound(), path)

    assert response.status_code == 404
    assert response.json["instance"] == response.request.path
    assert response.data.isascii()


def test_the_request_id_is_the_one_in_the_header(answer_to):
    response = answer_to(NotFound(), headers={"X-Request-ID": "abc-1"})

    assert response.json["request_id"] == response.headers["X-Request-ID"] == "abc-1"


def test_a_redirect_is_no_problem():
    app = Flask(__name__)
    register_error_handlers(app)
    app.add_url_rule("/there/", view_func=lambda: request.path)

    response = app.test_client().get("/there")

    assert response.status_code == 308
    assert response.headers["Location"].endswith("/there/")


@pytest.mark.parametrize(
    ("error", "code"),
    [(Conflict("Two of them"), "conflict"), (default_exceptions[404](), "not_found")],
)
def test_below_a_path_documents_have_the_members_that_are_handed_in(answer_to, error, code):
    members = {"/odd/": lambda code, detail: {"error": code, "text": detail}}

    odd = answer_to(error, "/odd/thing", members=members).json
    usual = answer_to(error, "/oddity", members=members).json

    assert (odd["error"], odd["text"]) == (code, odd["detail"])
    assert usual["error"] == usual["detail"] == odd["detail"]
    assert "text" not in usual
