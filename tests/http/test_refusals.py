"""Refusals of bytes that are no request are counted and logged, and quote none of them."""

from __future__ import annotations

import socket

import pytest

from tests.support.serving import serving
from tests.support.waiting import eventually

CANARY = "canary4711"
POST = "POST /users HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
PLACES = {
    "a body without a length": (POST + '\r\n{{"password":"{}"}}\r\n\r\n', "415 400"),
    "a body that is too long": (POST + 'Content-Length: 2\r\n\r\n{{}}{{"p":"{}"}}\r\n\r\n', "400"),
    "a field without a colon": ("GET / HTTP/1.1\r\nHost: x\r\nX-API-Key {}\r\n\r\n", "400"),
    "a scheme without one": ("GET / HTTP/1.1\r\nHost: x\r\nAuthorization {}\r\n\r\n", "400"),
    "a name": ("GET / HTTP/1.1\r\nHost: x\r\n{} : 1\r\n\r\n", "400"),
    "a value": ("GET / HTTP/1.1\r\nHost: x\r\nA: {}\0\r\n\r\n", "400"),
    "a method": ("{} / HTTP/1.1\r\nHost: x\r\n\r\n", "501"),
    "a target": ("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", "400"),
    "a version": ("GET / HTTP/{}\r\nHost: x\r\n\r\n", "400"),
    "a host": ("GET / HTTP/1.1\r\nHost: u@{}\r\n\r\n", "400"),
    "a coding": (POST + "Transfer-Encoding: {}\r\n\r\n", "501"),
    "codings": (POST + "Transfer-Encoding: {}, chunked\r\n\r\n", "501"),
    "a length": (POST + "Content-Length: {}\r\n\r\n", "400"),
    "an expectation": (POST + "Expect: {}\r\nContent-Length: 2\r\n\r\n{{}}", "417"),
    "a chunk": (POST + "Transfer-Encoding: chunked\r\n\r\n{}\r\n", "400"),
    "a trailer": (POST + "Transfer-Encoding: chunked\r\n\r\n0\r\n{}\r\n\r\n", "400"),
    "a cut body": (POST + "Content-Length: 999\r\n\r\n{}", "400"),
    "a long field": ("GET / HTTP/1.1\r\nHost: x\r\nA: {}" + "a" * 9000, "431"),
    "a long target": ("GET /{}" + "a" * 9000, "414"),
}


@pytest.fixture(scope="module")
def web(migrated_sqlite, tmp_path_factory):
    folder = tmp_path_factory.mktemp("refusals")
    file = folder / "app.db"
    file.write_bytes(migrated_sqlite.read_bytes())
    with serving(
        folder, DATABASE_URL=f"sqlite:///{file}", LOG_LEVEL="DEBUG", DELIVER_IN_WEB="false"
    ) as running:
        yield running


def send(web, data):
    with socket.create_connection(("127.0.0.1", web.port), 10) as client:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        received = b""
        while more := client.recv(65536):
            received += more
    return received


@pytest.mark.parametrize("place", PLACES)
def test_no_text_of_a_malformed_request_is_in_a_log_line_or_an_answer(web, place):
    text, statuses = PLACES[place]

    received = send(web, text.format(CANARY).encode("latin-1"))

    assert received.split(b" ", 2)[1].decode() in statuses.split()
    assert CANARY.encode() not in received
    assert CANARY not in web.output.lower()
    assert CANARY not in web.errors.lower()


@pytest.mark.parametrize(
    ("data", "method", "status"),
    [
        (b"nonsense\r\n\r\n", "_OTHER", "400"),
        (b"BREW / HTTP/1.1\r\nHost: x\r\n\r\n", "_OTHER", "501"),
        (b"GET / HTTP/1.1\r\n\r\n", "GET", "400"),
        (b"HEAD / HTTP/1.1\r\n\r\n", "HEAD", "400"),
        (b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", "GET", "414"),
    ],
)
def test_a_refusal_is_counted_and_has_one_line(web, data, method, status):
    labels = {"method": method, "status_code": status, "endpoint": "unknown"}
    counted = web.total("http_requests_total", **labels)
    logged = len(web.logged("Request answered"))

    received = send(web, data)

    assert received.startswith(b"HTTP/1.1 " + status.encode())
    assert b"Connection: close\r\n" in received
    assert web.total("http_requests_total", **labels) == counted + 1
    eventually(lambda: len(web.logged("Request answered")) == logged + 1)
    line = web.logged("Request answered")[-1]
    assert (line["method"], line["status"], line["route"]) == (method, int(status), "")


def test_a_refusal_is_a_problem_with_an_id_of_its_own(web):
    first, second = (send(web, b"nonsense\r\n\r\n") for _ in range(2))

    assert b"Content-Type: application/problem+json\r\n" in first
    assert b'"code": "bad_request"' in first
    assert first != second
