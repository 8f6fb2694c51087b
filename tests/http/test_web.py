"""Every request gets a clear answer: a caller's mistake is never a server error."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable
from urllib.parse import quote_from_bytes
from weakref import WeakSet

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from chassis.http.web import MAX_BODY_BYTES
from tests.support.factories import ADA
from userservice.users import queries

NOBODY = "0190a6e4-5b1c-7d3e-8f00-123456789abc"
PATHS = ["/users", f"/users/{NOBODY}", "/health", "/version", "/openapi.json", "/docs"]
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "BREW"]
CONTENT_TYPES = ["application/json", "application/merge-patch+json", "text/plain", "", "a/b/c;;=,"]

# The fixtures hold no state that one example leaves to the next, but for users that exist.
relaxed = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
header_text = st.text(st.characters(max_codepoint=255, exclude_characters="\r\n"), max_size=50)


def assert_clear(response):
    """Check that an answer is a success, or a problem that the caller can act upon."""
    assert response.status_code < 500, response.text
    if response.status_code >= 400 and response.request.method != "HEAD":
        assert response.content_type == "application/problem+json"
        assert response.json["status"] == response.status_code
        assert response.json["error"]
    assert response.headers["X-Request-ID"]
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Cache-Control"]


def test_functions_that_are_registered_for_one_request_are_not_kept_for_ever(app):
    registered: WeakSet[Callable[[], int]] = WeakSet()

    def register(number):
        def function():
            return number

        registered.add(function)
        app.ensure_sync(function)

    for number in range(2000):
        register(number)

    assert len(registered) < 1000


# Hypothesis looks for the input; the examples are what once went wrong elsewhere.


@relaxed
@given(
    body=st.binary(max_size=200),
    content_type=st.sampled_from(CONTENT_TYPES),
    method=st.sampled_from(["POST", "PATCH"]),
)
@example(b'{"email": "a@example.com", "name": "\\u0000"}', "application/json", "POST")
@example(b"\x00" * 100, "application/json", "PATCH")
def test_any_body_is_answered_clearly(service_client, body, content_type, method):
    path = "/users" if method == "POST" else f"/users/{NOBODY}"

    response = service_client.open(path, method=method, data=body, content_type=content_type)

    assert_clear(response)


@relaxed
@given(
    members=st.dictionaries(
        st.sampled_from(["email", "name", "password", "source", "tier", "x"]),
        st.text(max_size=300) | st.none() | st.integers() | st.lists(st.text(max_size=3)),
    )
)
@example({"email": "a@b.co", "name": "\U0010ffff", "source": "\ufffe", "tier": "'"})
def test_any_user_is_answered_clearly_and_stored_whole_or_not_at_all(
    service_client, database, members
):
    rows = count_rows(database)

    response = service_client.post("/users", json=ADA | members)

    assert_clear(response)
    is_new = response.status_code == 201
    assert count_rows(database) == rows + is_new
    if is_new:
        read = service_client.get(response.headers["Location"])
        assert read.data == response.data
        assert service_client.delete(response.headers["Location"]).status_code == 204


@relaxed
@given(path=st.binary(max_size=60), method=st.sampled_from(METHODS))
@example(b"users/\x00", "GET")
@example(b"users/\xff\xfe", "DELETE")
@example(b"../../etc/passwd", "GET")
@example(b"/users", "GET")
@example(b"docs/../app.py", "GET")
@example(b"users/" + b"9" * 10_000, "GET")
def test_any_path_is_answered_clearly(service_client, path, method):
    response = service_client.open("/" + quote_from_bytes(path), method=method)

    assert_clear(response)


@relaxed
@given(path=st.sampled_from(PATHS), method=st.sampled_from(METHODS))
def test_any_method_is_answered_clearly(service_client, path, method):
    response = service_client.open(path, method=method)

    assert_clear(response)
    if response.status_code == 405:
        assert method not in response.headers["Allow"].split(", ")


@relaxed
@given(
    query=st.dictionaries(
        st.sampled_from([b"page_size", b"page_token", b"status", b"email", b"x", b"\xff"]),
        st.binary(max_size=40),
    )
)
@example({b"email": b"\x00"})
@example({b"email": b"\xff\xfe"})
@example({b"email": b"\xed\xa0\x80"})
@example({b"page_token": b"\x00\xff"})
@example({b"page_size": "\u0661\u0662".encode()})
@example({b"status": b"active\x00"})
def test_any_query_is_answered_clearly(service_client, query):
    parts = (f"{quote_from_bytes(name)}={quote_from_bytes(query[name])}" for name in query)

    response = service_client.get("/users?" + "&".join(parts))

    assert_clear(response)


@pytest.mark.parametrize(
    "query",
    ["%", "%zz", "email=%", "email=%e", "&&&", "=", "====", "email", "email[]=a", "a=" * 9000,
     "page_size=1&page_size=2", "email=" + "%f0%9f%98%80" * 3000, "\xff\xfe", "email=\x00"],
    ids=lambda query: query[:20],
)  # fmt: skip
def test_a_query_that_is_hardly_one_is_answered_clearly(service_client, query):
    response = service_client.get("/users", environ_overrides={"QUERY_STRING": query})

    assert_clear(response)


@relaxed
@given(
    name=st.sampled_from(
        ["If-Match", "If-None-Match", "X-API-Key", "X-Request-ID", "Content-Type", "Accept",
         "Range", "Cookie", "Host", "Authorization", "traceparent", "baggage", "Content-Length",
         "X-Forwarded-For", "X-HTTP-Method-Override", "If-Modified-Since", "Accept-Encoding",
         "Content-Encoding", "Expect", "Origin"]
    ),
    value=header_text,
    method=st.sampled_from(["GET", "PATCH", "DELETE", "POST"]),
)  # fmt: skip
@example("If-Match", '""', "DELETE")
@example("If-Match", '"", W/"", *', "PATCH")
@example("If-None-Match", '""', "GET")
@example("Host", "a" * 300 + ".b", "GET")
@example("Host", "[::1", "GET")
@example("Content-Length", "-1", "POST")
@example("Content-Length", "1e9", "POST")
@example("Content-Type", "application/json; charset=\xff", "POST")
@example("Authorization", "Basic \xff", "GET")
@example("Range", "bytes=9-1", "GET")
def test_any_header_is_answered_clearly(service_client, name, value, method):
    path = "/users" if method == "POST" else f"/users/{NOBODY}"
    body = {} if method == "GET" else {"json": {"name": "Ada"}}

    response = service_client.open(path, method=method, headers={name: value}, **body)

    assert_clear(response)


@relaxed
@given(value=header_text)
@example('""')
@example('"1", ""')
def test_any_condition_on_a_user_that_exists_is_answered_clearly(service_client, value):
    created = service_client.post("/users", json=ADA)
    address = created.headers["Location"]

    read = service_client.get(address, headers={"If-None-Match": value})
    changed = service_client.patch(address, json={"name": "A"}, headers={"If-Match": value})

    assert read.status_code in {200, 304}
    assert changed.status_code in {200, 412}
    service_client.delete(address)


# Sizes


@pytest.mark.parametrize("method", ["POST", "PATCH"])
@pytest.mark.parametrize("size", [MAX_BODY_BYTES + 1, 10 * MAX_BODY_BYTES])
def test_a_body_that_is_too_large_is_refused(service_client, method, size):
    path = "/users" if method == "POST" else f"/users/{NOBODY}"

    response = service_client.open(
        path, method=method, data=b" " * size, content_type="application/json"
    )

    assert response.status_code == 413
    assert response.json["code"] == "content_too_large"


def post_raw(caller, body, **environ):
    """Register a user with a body, and what is said of it, as they are."""
    overrides = {"wsgi.input": body, "CONTENT_TYPE": "application/json"} | environ
    return caller.post("/users", environ_overrides=overrides)


def post_chunked(caller, body):
    """Send a body as a server hands over one without Content-Length."""
    chunked = {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True}
    return post_raw(caller, body, **chunked)


def test_a_chunked_body_is_read(client):
    response = post_chunked(client, io.BytesIO(json.dumps(ADA).encode()))

    assert response.status_code == 201


def test_a_chunked_body_may_have_64_kib_and_no_more(client):
    body = json.dumps(ADA).encode().ljust(MAX_BODY_BYTES)

    refused = post_chunked(client, io.BytesIO(body + b" "))
    accepted = post_chunked(client, io.BytesIO(body))

    assert refused.status_code == 413
    assert accepted.status_code == 201


def test_a_chunked_body_that_is_too_large_is_refused_before_it_ends(client):
    class Endless(io.RawIOBase):
        """A body that would never end."""

        taken = 0

        def readable(self):
            return True

        def readinto(self, buffer):
            self.taken += len(buffer)
            buffer[:] = b" " * len(buffer)
            return len(buffer)

    body = Endless()

    response = post_chunked(client, body)

    assert response.status_code == 413
    assert body.taken < 4 * MAX_BODY_BYTES


class Broken(io.RawIOBase):
    """A body that ends with an error of the server."""

    def __init__(self, error):
        super().__init__()
        self._error = error

    def readable(self):
        return True

    def readinto(self, _buffer):
        raise self._error


@pytest.mark.parametrize("error", [RuntimeError("bad chunk"), OSError("gone"), ValueError("odd")])
def test_a_body_that_cannot_be_read_is_the_callers_fault(client, error):
    response = post_chunked(client, Broken(error))

    assert response.status_code == 400
    assert response.content_type == "application/problem+json"


def test_a_body_shorter_than_promised_is_refused(client):
    response = post_raw(client, io.BytesIO(json.dumps(ADA).encode()), CONTENT_LENGTH="1000")

    assert response.status_code == 400
    assert response.content_type == "application/problem+json"


def test_a_body_longer_than_promised_is_cut(client, database):
    body = json.dumps(ADA).encode()

    response = post_raw(
        client,
        io.BytesIO(body + b'{"email": "smuggled@example.com"}'),
        CONTENT_LENGTH=str(len(body)),
    )

    assert response.status_code == 201
    assert count_rows(database) == 1


# Addresses


@pytest.mark.parametrize("path", ["/users/", "//users", "/Users", "/users//", "/users/./", "//"])
def test_an_address_has_one_spelling(service_client, path):
    # Not as an address: of //users the client would ask the host `users` for its root.
    response = service_client.get("/", environ_overrides={"PATH_INFO": path})

    assert response.status_code == 404


def test_options_names_the_methods(client):
    response = client.options("/users")

    assert response.status_code == 204
    assert {"GET", "POST"} <= set(response.headers["Allow"].split(", "))


def test_a_method_cannot_be_smuggled_in_a_header(service_client):
    created = service_client.post("/users", json=ADA)

    response = service_client.post(
        created.headers["Location"], headers={"X-HTTP-Method-Override": "DELETE"}
    )

    assert response.status_code == 405
    assert service_client.get(created.headers["Location"]).status_code == 200


def count_rows(database):
    """Count the users, deleted ones included."""
    with database.connection() as connection:
        return sum(queries.count_users(connection).values())


BODIES = {
    "POST /users": "application/json",
    f"PATCH /users/{NOBODY}": "application/merge-patch+json",
    "POST /users/import": "application/x-ndjson",
    "POST /auth/token": "application/x-www-form-urlencoded",
    "POST /auth/revoke": "application/x-www-form-urlencoded",
}


@pytest.mark.parametrize("coding", ["gzip", "GZIP", "br", "identity, gzip"])
@pytest.mark.parametrize("route", BODIES)
def test_a_body_that_is_compressed_is_refused_as_that(service_client, route, coding):
    method, path = route.split()

    response = service_client.open(
        path, method=method, data=gzip.compress(json.dumps(ADA).encode()),
        content_type=BODIES[route], headers={"Content-Encoding": coding},
    )  # fmt: skip

    assert (response.status_code, response.json["code"]) == (415, "unsupported_content_coding")
    assert "Content-Encoding" in response.json["detail"]
    assert response.headers["Accept-Encoding"] == "identity"
    assert "Accept" not in response.headers


@pytest.mark.parametrize("coding", ["identity", "Identity", ""])
def test_a_body_that_is_sent_as_it_is_may_say_so(client, coding):
    response = client.post("/users", json=ADA, headers={"Content-Encoding": coding})

    assert response.status_code == 201
