"""The headers of every answer for browsers, and the web pages that may call."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from chassis.http.auth import public
from tests.conftest import API_KEY, make_app
from tests.support.factories import ADA, make_user

ORIGIN = "https://app.example.com"
OTHER = "https://app.example.com.attacker.example"
PREFLIGHT = {
    "Origin": ORIGIN,
    "Access-Control-Request-Method": "PATCH",
    "Access-Control-Request-Headers": "authorization, content-type",
}
EVERY = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Strict-Transport-Security": "max-age=31536000",
}
API_POLICY = "default-src 'none'; frame-ancestors 'none'"
ANSWERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "200": ("GET", "/users", {}),
    "201": ("POST", "/users", {"json": ADA}),
    "204": ("DELETE", "/users/{id}", {}),
    "304": ("GET", "/users/{id}", {"headers": {"If-None-Match": "*", "X-API-Key": API_KEY}}),
    "400": ("POST", "/users", {"json": {}}),
    "400 at /auth": ("POST", "/auth/token", {}),
    "401": ("GET", "/users", {"headers": {"X-API-Key": "wrong"}}),
    "404": ("GET", "/unknown", {}),
    "405": ("PUT", "/users", {}),
    "413": ("POST", "/users", {"data": b"a" * 70_000, "content_type": "application/json"}),
    "415": ("POST", "/users", {"data": b"a"}),
    "500": ("GET", "/broken", {}),
    "OPTIONS": ("OPTIONS", "/users", {}),
    "HEAD": ("HEAD", "/users/{id}", {}),
    "probe": ("GET", "/health", {}),
    "description": ("GET", "/openapi.json", {}),
}


@pytest.fixture
def broken_app(app):
    """The application with a route that fails."""

    @app.get("/broken")
    @public
    def broken():
        raise RuntimeError

    return app


@pytest.fixture
def cors_client(config, services):
    app = make_app(replace(config, cors_origins=ORIGIN), services)
    return app.test_client()


def cors_headers(response):
    return [name for name, _ in response.headers if name.startswith("Access-Control-")]


@pytest.mark.parametrize("kind", ANSWERS)
def test_every_kind_of_answer_carries_the_headers(broken_app, database, kind):
    method, path, options = ANSWERS[kind]
    path = path.format(id=make_user(database).id)
    options = {"headers": {"X-API-Key": API_KEY}} | options

    response = broken_app.test_client().open(path, method=method, **options)

    assert kind[:3] in {str(response.status_code), "OPT", "HEA", "pro", "des"}
    assert {name: response.headers[name] for name in EVERY} == EVERY
    assert response.headers["Content-Security-Policy"] == API_POLICY
    assert response.headers["X-Request-ID"]


@pytest.mark.parametrize("kind", ["200", "201", "HEAD", "304"])
def test_user_data_may_be_kept_by_its_reader_alone(broken_app, database, kind):
    method, path, options = ANSWERS[kind]
    path = path.format(id=make_user(database).id)

    response = broken_app.test_client().open(
        path, method=method, **({"headers": {"X-API-Key": API_KEY}} | options)
    )

    assert response.headers["Cache-Control"] == "private, no-cache"


@pytest.mark.parametrize("kind", ["400", "400 at /auth", "401", "404", "413", "500"])
def test_errors_are_kept_by_nobody(broken_app, kind):
    method, path, options = ANSWERS[kind]

    response = broken_app.test_client().open(path, method=method, **options)

    assert response.headers["Cache-Control"] == "no-store"


def test_the_page_that_shows_the_description_runs_no_scripts_of_others(client):
    response = client.get("/docs")

    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "frame-ancestors 'none'" in policy
    assert response.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_no_page_of_another_origin_may_call_by_default(client, method):
    response = client.open("/users", method=method, headers=PREFLIGHT)

    assert cors_headers(response) == []


def test_pages_of_a_configured_origin_may_call(cors_client):
    response = cors_client.get("/health", headers={"Origin": ORIGIN})

    assert response.headers["Access-Control-Allow-Origin"] == ORIGIN
    exposed = response.headers["Access-Control-Expose-Headers"]
    assert {"ETag", "Location", "Retry-After"} <= set(exposed.split(", "))
    assert "Access-Control-Allow-Credentials" not in response.headers


def test_pages_of_a_configured_origin_may_read_why_they_were_refused(cors_client):
    response = cors_client.get("/users", headers={"Origin": ORIGIN})

    assert response.status_code == 401
    assert response.headers["Access-Control-Allow-Origin"] == ORIGIN


def test_a_browser_that_asks_beforehand_is_told_so(cors_client):
    response = cors_client.options("/users/me", headers=PREFLIGHT)

    assert response.status_code == 204
    assert response.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert "PATCH" in response.headers["Access-Control-Allow-Methods"]
    assert "authorization" in response.headers["Access-Control-Allow-Headers"].lower()


@pytest.mark.parametrize("origin", [OTHER, "null", "http://app.example.com", ORIGIN + ":8443"])
def test_pages_of_other_origins_may_not_call(cors_client, origin):
    read = cors_client.get("/health", headers={"Origin": origin})
    asked = cors_client.options("/users/me", headers=PREFLIGHT | {"Origin": origin})

    assert "Access-Control-Allow-Origin" not in read.headers
    assert "Access-Control-Allow-Origin" not in asked.headers
