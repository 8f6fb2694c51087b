"""A call to another service ends by its deadline and reads little, whatever that service does.

The time limits are short, and no test measures how long a call took: one that did not end would
keep its test from ending.
"""

from __future__ import annotations

import gzip
import socket
import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import timedelta
from typing import Any

import pytest

from chassis.clients.connection_pool import ConnectionPool
from chassis.clients.http_client import HttpClient
from chassis.errors import Unavailable
from tests.support.ports import HOST, free_port
from tests.support.raw_http import OK, RawService, drips, says
from tests.support.waiting import DEADLINE_SECONDS

SHORT = timedelta(seconds=0.4)
LONG = timedelta(seconds=DEADLINE_SECONDS)
KEY = {"Idempotency-Key": "a-key"}
MAIL = {"to": "ada@example.com"}


@contextmanager
def calling(behave, *, timeout=LONG, **options):
    """A service that behaves like this, and a client for it."""
    with (
        closing(RawService(behave)) as service,
        closing(HttpClient(timeout=timeout, **options)) as client,
    ):
        yield service, client


def status(client, url, headers=KEY):
    return client.post(url, MAIL, headers).status


def in_turn(*behaviours):
    """Behave differently each time, and like the last from then on."""
    left = list(behaviours)

    def behave(peer, service):
        return (left.pop(0) if len(left) > 1 else left[0])(peer, service)

    return behave


def resets(peer, _service):
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return False


# No end, and each byte before the time limit of a single read would be over.
ENDLESS = {
    "head": drips(b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n"),
    "status line": drips(b"HTTP/1.1 200 ", b"O"),
    "interim answers": drips(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
    "continue": drips(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "silence": lambda peer, service: service.await_end(peer),
}


@pytest.mark.parametrize("behave", ENDLESS.values(), ids=ENDLESS)
def test_an_answer_that_does_not_come_to_its_point_is_none(behave):
    with calling(behave, timeout=SHORT) as (service, client):
        with pytest.raises(Unavailable, match="No answer: TimeoutError"):
            client.post(service.url, MAIL, KEY)

        assert service.hung_up.wait(DEADLINE_SECONDS)
        assert len(service.asked) == 1


@pytest.mark.parametrize("behave", ENDLESS.values(), ids=ENDLESS)
def test_a_ping_ends_by_its_deadline_too(behave):
    with calling(behave, timeout=SHORT) as (service, client), pytest.raises(Unavailable) as refusal:
        client.ping(service.url)

    assert isinstance(refusal.value.__cause__, TimeoutError)


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 100000\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n5\r\n",
        b"\r\n",
    ],
    ids=["announced", "chunked", "without an end"],
)
def test_a_body_that_drips_changes_nothing_about_the_status(head):
    with calling(drips(b"HTTP/1.1 202 Accepted\r\n" + head, b"x")) as (service, client):
        answered = status(client, service.url)

        assert answered == 202
        assert service.hung_up.wait(DEADLINE_SECONDS)


def test_a_huge_answer_is_hung_up_on():
    sent = []

    def flood(peer, _service):
        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 400000000\r\n\r\n")
        for _ in range(400):
            peer.sendall(b"x" * 1_000_000)
            sent.append(1_000_000)
        return True

    with calling(flood) as (service, client):
        answered = status(client, service.url)
        assert service.hung_up.wait(DEADLINE_SECONDS)

    assert answered == 200
    assert sum(sent) < 100_000_000  # the system's buffers, and nothing else


@pytest.mark.parametrize("line", [b"HTTP/1.1 103 Early Hints\r\n\r\n", b"X-A: b\r\n"])
def test_a_head_without_end_that_comes_fast_is_hung_up_on(line):
    def flood(peer, _service):
        peer.sendall(b"HTTP/1.1 200 OK\r\n" if line.startswith(b"X") else b"")
        while True:
            peer.sendall(line * 1000)

    with calling(flood) as (service, client):
        with pytest.raises(Unavailable, match="No answer: UnreadableAnswer"):
            client.post(service.url, MAIL, KEY)

        assert service.hung_up.wait(DEADLINE_SECONDS)


def encoded(body, coding=b"gzip"):
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: %b\r\nContent-Length: %d\r\n\r\n"
    return head % (coding, len(body)) + body


@pytest.mark.parametrize(
    "answer",
    [
        encoded(gzip.compress(bytes(10_000_000))),
        encoded(b"not gzip!"),
        encoded(b"?", b"klingon"),
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nSet-Cookie: a=\xff\xfe; domain=..\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK,
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n" + OK,
    ],
    ids=["bomb", "undecodable", "unknown", "cookie", "chunked", "early hints", "interim"],
)
def test_only_the_status_counts_and_the_connection_is_kept(answer):
    with calling(says(answer)) as (service, client):
        answered = [status(client, service.url) for _ in range(3)]

        assert answered == [200] * 3
        assert service.connections == (1 if len(answer) < 10_000 else 3)
        assert {each.headers["accept-encoding"] for each in service.asked} == {"identity"}


@pytest.mark.parametrize(
    "pieces",
    [
        (OK + b"!",),
        (OK, b"!"),
        (OK + b"H",),
        (OK + OK,),
        (OK, OK),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab",),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nabc",),
    ],
    ids=["same", "later", "head", "answer", "answer later", "body", "chunk", "closed"],
)
def test_a_byte_too_many_never_spoils_the_next_call(pieces):
    with calling(says(*pieces)) as (service, client):
        answered = [status(client, service.url) for _ in range(5)]

        assert answered == [200] * 5


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nsome text",
    ],
)
def test_a_connection_that_the_other_side_closes_is_not_kept(answer):
    with calling(says(answer, keeps=False)) as (service, client):
        answered = [status(client, service.url) for _ in range(3)]

        assert answered == [200] * 3
        assert service.connections == 3


@pytest.mark.parametrize("behave", [resets, says(keeps=False), says(b"HTTP/1.1 2", keeps=False)])
def test_a_connection_that_breaks_before_the_answer_is_a_failure(behave):
    with calling(behave) as (service, client):
        with pytest.raises(Unavailable, match="No answer: Connection"):
            client.post(service.url, MAIL, KEY)

        assert len(service.asked) == 1


@pytest.mark.parametrize("behave", [resets, says(keeps=False), says(b"no HTTP\r\n", keeps=False)])
def test_a_kept_connection_that_breaks_costs_no_call_that_may_come_twice(behave):
    with calling(in_turn(says(OK), behave, says(OK))) as (service, client):
        answered = [status(client, service.url), status(client, service.url)]

        assert answered == [200, 200]
        assert [each.connection for each in service.asked] == [1, 1, 2]
        assert {each.headers["idempotency-key"] for each in service.asked} == {"a-key"}


def test_a_call_without_a_key_is_never_made_twice():
    with calling(in_turn(says(OK), resets, says(OK))) as (service, client):
        client.post(service.url, MAIL, {})
        with pytest.raises(Unavailable):
            client.post(service.url, MAIL, {})

        assert len(service.asked) == 2


def test_a_kept_connection_that_hangs_is_not_tried_again():
    behave = in_turn(says(OK), lambda peer, service: service.await_end(peer))
    with calling(behave, timeout=SHORT) as (service, client):
        client.post(service.url, MAIL, KEY)
        with pytest.raises(Unavailable, match="No answer: TimeoutError"):
            client.post(service.url, MAIL, KEY)

        assert len(service.asked) == 2


def test_callers_at_once_have_a_connection_each_and_keep_them():
    everyone = threading.Barrier(8)

    def behave(peer, _service):
        everyone.wait(DEADLINE_SECONDS)
        peer.sendall(OK)
        return True

    with calling(behave) as (service, client), ThreadPoolExecutor(8) as threads:
        for _ in range(3):
            calls = [threads.submit(status, client, service.url) for _ in range(8)]
            assert [each.result() for each in calls] == [200] * 8

        assert service.connections == 8


def test_a_closed_client_keeps_nothing():
    def behave(peer, service):
        peer.sendall(OK)
        return service.await_end(peer)

    with calling(behave) as (service, client):
        client.post(service.url, MAIL, KEY)
        client.close()

        assert service.hung_up.wait(DEADLINE_SECONDS)


def test_an_address_where_nobody_listens_costs_a_host_none_of_its_others():
    with closing(RawService(says(OK))) as service:
        good = socket.getaddrinfo(HOST, service.port, type=socket.SOCK_STREAM)
        dead = socket.getaddrinfo(HOST, free_port(), type=socket.SOCK_STREAM)
        with closing(HttpClient(timeout=LONG, look_up=lambda *_: dead + good)) as client:
            assert status(client, service.url) == 200


@pytest.mark.parametrize("url", ["http://\xe4.example\u2024/", f"http://{'a' * 64}.example/", "x:"])
def test_a_url_that_leads_nowhere_is_no_answer(url):
    with closing(HttpClient(timeout=SHORT)) as client:
        with pytest.raises(Unavailable, match="No answer"):
            client.post(url, MAIL, KEY)
        with pytest.raises(Unavailable):
            client.ping(url)


def test_a_request_says_all_that_its_url_holds():
    with calling(says(OK)) as (service, client):
        place = f"user%40:p%3A@{HOST}:{service.port}"
        client.post(f"http://{place}/a b/ü?x=1&y=%20#part", MAIL, KEY)

        (asked,) = service.asked
        assert asked.line == "POST /a%20b/%C3%BC?x=1&y=%20 HTTP/1.1"
        assert asked.headers["host"] == f"{HOST}:{service.port}"
        assert asked.headers["authorization"] == "Basic dXNlckA6cDo="
        assert asked.headers["content-type"] == "application/json"
        assert asked.headers["user-agent"] == "python"
        assert asked.body == b'{"to":"ada@example.com"}'


def test_a_header_cannot_hold_a_line_of_its_own():
    with calling(says(OK)) as (service, client):
        with pytest.raises(Unavailable):
            client.post(service.url, MAIL, {"Idempotency-Key": "a\r\nX-Forged: b"})

        assert service.asked == []


class Kept:
    """A connection that can be used again."""

    is_kept = True

    def __init__(self):
        self.is_closed = False

    def is_quiet(self):
        return True

    def close(self):
        self.is_closed = True


def test_a_connection_that_comes_back_after_the_end_is_not_kept():
    pool: ConnectionPool[Any] = ConnectionPool()
    connection: Any = Kept()
    pool.close()

    pool.give("here", connection)

    assert connection.is_closed
    assert pool.take("here") is None
