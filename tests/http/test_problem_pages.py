"""The type of each problem is the address of a page about it."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from werkzeug.exceptions import default_exceptions

from chassis.http.problem import names_of
from docs.generate import error_classes
from tests.conftest import make_app

ERRORS = sorted({(each.code, int(each.status)) for each in error_classes()})
STATUSES = sorted((names_of(status)[1], status) for status in default_exceptions)


@pytest.fixture
def database_url(sqlite_url):
    """The database makes no difference here."""
    return sqlite_url


@pytest.mark.parametrize(("code", "status"), [*ERRORS, *STATUSES])
def test_every_code_has_a_page_that_says_what_to_do(app, code, status):
    response = app.test_client().get(f"/problems/{code.replace('_', '-')}")

    assert response.status_code == 200
    assert response.mimetype == "text/html"
    assert f"<code>{code}</code>" in response.text
    assert f"Status {status}" in response.text
    meaning, to_do = re.findall(r"<h2>.*?</h2>\n((?:<p>.+</p>\n)+)", response.text)
    assert meaning != to_do


@pytest.mark.parametrize("path", ["/users", "/unknown", "/users/unknown"])
def test_a_problem_leads_to_its_page(app, path):
    client = app.test_client()
    problem = client.get(path).json

    page = client.get(problem["type"])

    assert page.status_code == 200
    assert problem["code"] in page.text


def test_a_problem_below_a_prefix_leads_to_its_page_there(config, services):
    app = make_app(replace(config, trusted_proxy_hops=1), services)

    problem = app.test_client().get("/users", headers={"X-Forwarded-Prefix": "/svc"}).json

    assert problem["type"] == "/svc/problems/unauthenticated"


@pytest.mark.parametrize(
    "name", ["unknown", "not_found", "NOT-FOUND", "%3Cscript%3E", "..%2f", "a" * 5000, "ok", "-"]
)
def test_what_is_no_code_has_no_page(app, name):
    response = app.test_client().get(f"/problems/{name}")

    assert response.status_code == 404
    assert response.content_type == "application/problem+json"


def test_a_page_runs_and_loads_nothing(app):
    response = app.test_client().get("/problems/not-found")

    assert response.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert not re.search("<script|<link|<img|style=", response.text)
