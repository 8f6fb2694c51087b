"""gunicorn's worker as clients meet it: slow ones, rude ones, and those that do well."""

from __future__ import annotations

import http.client
import json
import re
import select
import socket
import struct
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import pytest

from tests.support.ports import HOST
from tests.support.waiting import DEADLINE_SECONDS, eventually
from tests.support.web import serve

HASTY_SECONDS, PATIENT_SECONDS = 1, 600
CLIENTS = 60

GET = b"GET /version HTTP/1.1\r\nHost: test\r\n\r\n"
CLOSE = b"GET /version HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
POST = b"POST /users HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"

SLOW = {
    "nothing": b"",
    "half a head": b"POST /users HTTP/1.1\r\nHost: tes",
    "an endless head": b"GET / HTTP/1.1\r\n" + b"A: " + b"a" * 8000 + b"\r\n",
    "half a body": POST + b'Content-Length: 100\r\n\r\n{"email"',
    "half a chunk": CHUNKED + b"5\r\nab",
    "a chunk that looks like the last one": CHUNKED + b"3\r\n0\r\n\r\n",
    "half a request behind a whole one": GET + POST + b"Content-Length: 100\r\n\r\n{",
    "an empty line": b"\r\n",
    "a length beside a coding": POST
    + b"Transfer-Encoding: identity\r\nContent-Length: 1000\r\n\r\n0\r\n\r\n",
    "a length of twenty digits": POST + b"Content-Length: 10000000000000000000\r\n\r\n{",
}


@pytest.fixture(scope="module")
def web(migrated_sqlite, tmp_path_factory):
    """One process, few threads, and more patience than any test has."""
    with running(migrated_sqlite, tmp_path_factory, PATIENT_SECONDS) as patient:
        yield patient


@pytest.fixture(scope="module")
def hasty_web(migrated_sqlite, tmp_path_factory):
    """The same with little patience."""
    with running(migrated_sqlite, tmp_path_factory, HASTY_SECONDS) as hasty:
        yield hasty


@contextmanager
def running(migrated_sqlite, tmp_path_factory, read_seconds):
    folder = tmp_path_factory.mktemp("web")
    file = folder / "app.db"
    file.write_bytes(migrated_sqlite.read_bytes())
    with serve(
        DATABASE_URL=f"sqlite:///{file}",
        WEB_CONCURRENCY="1",
        WEB_THREADS="4",
        REQUEST_READ_SECONDS=str(read_seconds),
    ) as web:
        yield web


def read_to_end(connection):
    """Return all that comes until the server closes."""
    received = b""
    try:
        while data := connection.recv(65536):
            received += data
    except ConnectionResetError:
        pass
    return received


def read_answer(connection):
    """Return an answer's status and JSON body, and leave the connection open."""
    response = http.client.HTTPResponse(connection)
    response.begin()
    body = response.read()
    return response.status, json.loads(body)


@pytest.mark.slow
@pytest.mark.parametrize("beginning", SLOW.values(), ids=SLOW.keys())
def test_clients_that_do_not_finish_delay_nobody(web, beginning):
    with ExitStack() as stack:
        for _ in range(CLIENTS):
            stack.enter_context(web.connect()).sendall(beginning)
        with web.connect() as another:
            another.sendall(CLOSE)
            answer = read_to_end(another)

    assert answer.startswith(b"HTTP/1.1 200 ")


@pytest.mark.slow
@pytest.mark.parametrize("beginning", SLOW.values(), ids=SLOW.keys())
def test_clients_that_do_not_finish_are_closed(hasty_web, beginning):
    with ExitStack() as stack:
        clients = [stack.enter_context(hasty_web.connect()) for _ in range(CLIENTS)]
        for client in clients:
            client.sendall(beginning)
        answers = [read_to_end(client) for client in clients]  # up to the server's good-bye

    assert len(answers) == CLIENTS


@pytest.mark.slow
@pytest.mark.slow
@pytest.mark.parametrize("beginning", [b"", CHUNKED], ids=["a head", "a body"])
def test_a_client_that_sends_a_little_at_a_time_is_closed_all_the_same(hasty_web, beginning):
    request = beginning + b"1\r\na\r\n" * 1000 if beginning else b"GET /" + b"a" * 5000

    with hasty_web.connect() as client:
        client.sendall(beginning)
        answer = trickle(client, request[len(beginning) :])

    assert answer.startswith(b"HTTP/1.1 408 ")


def trickle(client, data):
    """Send a byte at a time, far more often than the server's patience ends; return its answer."""
    for number in range(len(data)):
        if select.select([client], [], [], HASTY_SECONDS / 20)[0]:
            return read_to_end(client)
        client.sendall(data[number : number + 1])
    return b""


def test_a_head_without_an_end_is_refused_when_it_is_too_large(web):
    with web.connect() as client:
        client.sendall(b"GET / HTTP/1.1\r\n" + (b"A: " + b"a" * 8000 + b"\r\n") * 10)
        answer = read_to_end(client)

    assert answer.startswith(b"HTTP/1.1 431 ")
    assert b"application/problem+json" in answer


def test_a_connection_is_kept_for_the_next_request(web):
    with web.connect() as client:
        client.sendall(GET)
        first = read_answer(client)
        client.sendall(GET)
        second = read_answer(client)

    assert first == second
    assert first[0] == 200


@pytest.mark.parametrize(
    ("pieces", "statuses"),
    [
        ([GET], [200]),
        ([GET[:10], GET[10:]], [200]),
        ([POST + b"Content-Length: 2\r\n\r\n", b"{}"], [400]),
        ([GET + GET], [200, 200]),
        ([GET + GET[:10], GET[10:]], [200, 200]),
        ([POST + b"Content-Length: 70000\r\n\r\n"], [413]),
        ([b"GET / HTTP/1.1\r\nA: ", b"a" * 70000], [431]),
        ([], []),
    ],
    ids=["whole", "in two", "the body later", "two", "one and a half", "large", "endless", "none"],
)
def test_what_follows_an_answer_at_once_is_treated_like_what_comes_later(web, pieces, statuses):
    with web.connect() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.sendall(GET)
        first, _ = read_answer(client)
        for piece in pieces:
            client.sendall(piece)
        client.shutdown(socket.SHUT_WR)
        answers = read_to_end(client)

    assert first == 200
    assert re.findall(rb"HTTP/1\.1 (\d+)", answers) == [str(each).encode() for each in statuses]


@pytest.mark.slow
def test_callers_that_ask_without_a_pause_keep_no_thread_from_the_others(web):
    def ask_on(_number):
        with web.connect() as client:
            for _ in range(50):
                client.sendall(GET)
                status, _ = read_answer(client)
                assert status == 200

    with ThreadPoolExecutor(CLIENTS) as threads:
        done = [threads.submit(ask_on, number) for number in range(CLIENTS)]
        failures = [each.exception() for each in done]

    assert failures == [None] * CLIENTS


def test_requests_that_arrive_together_are_answered_in_order(web):
    chunked = CHUNKED + b"2\r\n{}\r\n0\r\n\r\n"

    with web.connect() as client:
        client.sendall(GET + chunked + POST + b"Content-Length: 2\r\n\r\n[]" + CLOSE)
        answers = read_to_end(client)

    statuses = re.findall(rb"HTTP/1\.1 (\d+)", answers)
    assert statuses == [b"200", b"400", b"400", b"200"]
    assert answers.index(b"Email is required") < answers.index(b"must be a JSON object")


def test_a_request_may_begin_behind_another_and_end_later(web):
    with web.connect() as client:
        client.sendall(GET + POST + b"Content-Length: 2\r\n")
        first, _ = read_answer(client)
        client.sendall(b"\r\n{}")
        second, document = read_answer(client)

    assert (first, second) == (200, 400)
    assert document["detail"] == "Email is required"


def test_a_client_that_asks_is_told_once_to_go_on(web):
    with web.connect() as client:
        client.sendall(
            POST + b"Content-Length: 2\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
        )
        word = client.recv(1024)
        client.sendall(b"{}")
        answer = read_to_end(client)

    assert word == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert answer.startswith(b"HTTP/1.1 400 ")


def test_a_client_that_asks_and_is_gone_ends_nothing(web):
    _, before = ask(web)

    for _ in range(200):
        client = web.connect()
        client.sendall(POST + b"Content-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()  # with a reset

    assert ask(web) == (200, before)
    assert "Exception in worker process" not in web.output()


@pytest.mark.parametrize(
    "body",
    [
        b"2\r\n{}\r\n0\r\n\r\n",
        b'1\r\n{\r\n1;name="value"\r\n}\r\n0\r\n\r\n',
        b"2\r\n{}\r\n0\r\nX-Trailer: 1\r\n\r\n",
        b"5\r\n{0\r\n\r\n1\r\n}\r\n0\r\n\r\n".replace(b"5\r\n{0\r\n\r\n", b"4\r\n{ \r\n\r\n"),
    ],
    ids=["one chunk", "an extension", "a trailer", "a line break in a chunk"],
)
def test_a_chunked_body_is_read_in_whatever_pieces_it_arrives(web, body):
    with web.connect() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in CHUNKED + body:
            client.sendall(bytes([byte]))
        status, document = read_answer(client)

    assert (status, document["detail"]) == (400, "Email is required")


@pytest.mark.parametrize(
    "request_text",
    [
        POST + b"Content-Length: 70000\r\n\r\n",
        CHUNKED + b"11170\r\n" + b"a" * 70000,
        CHUNKED + b"10\r\n0123456789abcdef\r\n" * 4200,
    ],
    ids=["by its length", "by one chunk", "by many chunks"],
)
def test_a_body_that_is_too_large_is_refused_before_it_ends(web, request_text):
    with web.connect() as client:
        client.sendall(request_text)
        status, document = read_answer(client)

    assert status == 413
    assert document["code"] == "content_too_large"


@pytest.mark.slow
def test_clients_that_do_not_close_after_the_answer_hold_up_nobody(web):
    with ExitStack() as stack:
        clients = [stack.enter_context(web.connect()) for _ in range(CLIENTS)]
        for client in clients:
            client.sendall(CLOSE)
        answers = [read_to_end(client) for client in clients]  # to the server's good-bye
        status, _ = ask(web)

    assert all(answer.startswith(b"HTTP/1.1 200 ") for answer in answers)
    assert status == 200


@pytest.mark.slow
def test_a_client_that_does_not_close_is_closed_soon_after_its_answer(web):
    with web.connect() as client:
        client.sendall(CLOSE)
        read_to_end(client)

        eventually(lambda: is_refused(client))


def is_refused(client):
    """Tell whether the server has closed its receiving side, too."""
    try:
        client.sendall(b"x")
    except ConnectionError:
        return True
    return False


@pytest.mark.slow
def test_what_a_client_sends_after_the_answer_does_not_cost_it_the_answer(web):
    with web.connect() as client:
        client.sendall(POST + b"Content-Length: 70000\r\n\r\n")
        client.sendall(b"a" * 70000)
        answer = read_to_end(client)

    assert answer.startswith(b"HTTP/1.1 413 ")


def test_what_is_no_request_is_refused_with_a_problem(web):
    with web.connect() as client:
        client.sendall(b"\x16\x03\x01 nonsense\r\n\r\n")
        answer = read_to_end(client)

    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"Content-Type: application/problem+json" in head
    assert b"X-Content-Type-Options: nosniff" in head
    assert b"nonsense" not in body


@pytest.mark.slow
def test_all_connections_are_counted_off_in_the_end(web):
    """The process would stop taking connections in when it lost count."""
    with ExitStack() as stack:
        for beginning in SLOW.values():
            stack.enter_context(web.connect()).sendall(beginning)

    for _ in range(1100):  # more than it takes at a time
        with web.connect() as client:
            client.sendall(CLOSE)
    status, _ = eventually(lambda: ask(web))

    assert status == 200


def ask(web):
    connection = http.client.HTTPConnection(HOST, web.port, timeout=DEADLINE_SECONDS)
    connection.request("GET", "/version")
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response.status, body
