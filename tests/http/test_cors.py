"""The web pages whose scripts may call: exactly those of the origins that are named."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chassis.http.admission import OVERLOADED
from config import AppConfig
from tests.conftest import make_app

ORIGIN = "https://app.example.com"
IPV6 = "http://[::1]:3000"
ASKED = {"Access-Control-Request-Method": "PATCH"}


@pytest.fixture
def database_url(sqlite_url):
    """The database makes no difference here."""
    return sqlite_url


@pytest.fixture
def client(config, services):
    """A caller of a service that two origins may call."""
    config = replace(config, cors_origins=frozenset({ORIGIN, IPV6}))
    return make_app(config, services).test_client()


def allowed(response):
    return response.headers.get("Access-Control-Allow-Origin")


@pytest.mark.parametrize("origin", [ORIGIN, IPV6])
def test_an_origin_that_is_named_may_call(client, origin):
    read = client.get("/health", headers={"Origin": origin})
    asked = client.options("/users", headers={"Origin": origin} | ASKED)

    assert allowed(read) == allowed(asked) == origin


@pytest.mark.parametrize(
    "origin",
    [
        *("null", "*", "", f"{ORIGIN}/", f"{ORIGIN}.evil.com", f"x{ORIGIN}", f"{ORIGIN}:443"),
        *("http://app.example.com", "https://APP.example.com", "https://appxexample.com"),
        *("http://1:3000", "http://::3000", "http://[::1]:3001", f"{ORIGIN} {ORIGIN}"),
    ],
)
def test_no_other_origin_may_call(client, origin):
    read = client.get("/health", headers={"Origin": origin})
    asked = client.options("/users", headers={"Origin": origin} | ASKED)

    for response in (read, asked):
        assert not [name for name, _ in response.headers if name.startswith("Access-Control-")]


@pytest.mark.parametrize("headers", [{}, {"Origin": ORIGIN}, {"Origin": "https://other.example"}])
@pytest.mark.parametrize("path", ["/health", "/users", "/unknown"])
def test_a_cache_is_told_that_answers_depend_on_the_origin(client, path, headers):
    assert "Origin" in client.get(path, headers=headers).vary


def test_a_permission_holds_for_two_hours_and_names_what_was_asked_for(client):
    wanted = "authorization, x-of-a-library"
    headers = {"Origin": ORIGIN, "Access-Control-Request-Headers": wanted} | ASKED

    response = client.options("/users/me", headers=headers)

    assert response.status_code == 204
    assert response.data == b""
    assert response.headers["Access-Control-Max-Age"] == "7200"
    assert response.headers["Access-Control-Allow-Headers"] == wanted
    for name in ("Origin", *headers.keys() - {"Origin"}):
        assert name in response.vary


def test_the_methods_are_those_that_some_route_has(client):
    response = client.options("/users", headers={"Origin": ORIGIN} | ASKED)

    methods = response.headers["Access-Control-Allow-Methods"].split(", ")
    assert methods == ["DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"]


@pytest.mark.parametrize("wanted", ["a b", "a,,b", "<x>", "é", ""])
def test_headers_that_are_none_are_not_allowed(client, wanted):
    headers = {"Origin": ORIGIN, "Access-Control-Request-Headers": wanted} | ASKED

    response = client.options("/users", headers=headers)

    assert "Access-Control-Allow-Headers" not in response.headers


@pytest.mark.parametrize("path", ["/unknown", "/users/unknown", "/auth/nothing"])
def test_a_script_can_read_that_an_address_is_unknown(client, path):
    asked = client.options(path, headers={"Origin": ORIGIN} | ASKED)
    refused = client.patch(path, headers={"Origin": ORIGIN})

    assert asked.status_code == 204
    assert allowed(asked) == ORIGIN
    assert refused.status_code in {404, 401}
    assert allowed(refused) == ORIGIN


def test_a_script_can_read_that_it_has_to_wait(client):
    overloaded = {"environ_overrides": {OVERLOADED: True}}

    asked = client.options("/users", headers={"Origin": ORIGIN} | ASKED, **overloaded)
    refused = client.get("/users", headers={"Origin": ORIGIN}, **overloaded)

    assert asked.status_code == 204
    assert refused.status_code == 503
    assert allowed(refused) == ORIGIN
    assert "Retry-After" in refused.headers["Access-Control-Expose-Headers"].split(", ")


def test_all_headers_that_the_description_names_can_be_read_by_scripts(client):
    answer = client.get("/openapi.json", headers={"Origin": ORIGIN})

    exposed = set(answer.headers["Access-Control-Expose-Headers"].split(", "))
    safelisted = {"Last-Modified"}  # by the Fetch standard
    assert set(answer.json["components"]["headers"]) - safelisted - {"Accept"} <= exposed


def test_cookies_are_never_asked_for(client):
    read = client.get("/health", headers={"Origin": ORIGIN})
    asked = client.options("/users", headers={"Origin": ORIGIN} | ASKED)

    assert "Access-Control-Allow-Credentials" not in read.headers
    assert "Access-Control-Allow-Credentials" not in asked.headers


def test_an_ordinary_question_for_the_methods_is_answered_as_such(client):
    response = client.options("/users", headers={"Origin": ORIGIN})

    assert "POST" in response.headers["Allow"]
    assert "Access-Control-Allow-Methods" not in response.headers


@pytest.mark.parametrize(
    ("written", "origin"),
    [
        ("https://App.Example.com", "https://app.example.com"),
        ("https://app.example.com:443", "https://app.example.com"),
        ("http://app.example.com:80", "http://app.example.com"),
        ("http://app.example.com:8080", "http://app.example.com:8080"),
        ("http://[::1]:3000", "http://[::1]:3000"),
    ],
)
def test_an_origin_is_taken_as_browsers_write_it(written, origin):
    assert AppConfig.from_env({"CORS_ORIGINS": written}).cors_origins == {origin}
