"""A client that is slow to read holds no thread, no slot, and not for ever."""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack

import pytest

from chassis.http import wire as wires
from chassis.http.pace import GRACE_SECONDS, Pace
from chassis.http.wire import Wire
from tests.http.harness import read_to_reset, request, serving
from tests.support.ports import HOST
from tests.support.waiting import eventually
from tests.support.web import serve

CLIENTS = 20
IMPATIENT = (
    "import functools, chassis.http.pace as pace, chassis.http.wire as wire",
    "wire.Pace = functools.partial(pace.Pace, 1.0)",
)
SMALL = 4096


@pytest.fixture(scope="module")
def web():
    with serving() as running:
        yield running


def holding(stack, web, data):
    for _ in range(CLIENTS):
        client = stack.enter_context(web.connect(buffer=SMALL))
        client.sendall(data)


@pytest.mark.parametrize(
    "data",
    [request("/large"), request("/stream") * 200, request("/endless"), request() * 1000],
    ids=["a large answer", "a pipeline", "a stream", "small ones"],
)
def test_others_are_answered_while_nobody_reads(web, data):
    with ExitStack() as stack:
        holding(stack, web, data)
        began = time.monotonic()
        answers = [web.ask(request("/", "Connection: close")) for _ in range(10)]
        took = time.monotonic() - began

    assert all(each.startswith(b"HTTP/1.1 200 ") for each in answers)
    assert took < 3


def test_a_client_that_reads_slowly_gets_all_the_same(web):
    with web.connect(buffer=SMALL) as client:
        client.sendall(request("/large", "Connection: close"))
        time.sleep(0.3)
        received = 0
        while data := client.recv(200_000):
            received += len(data)

    assert received > 4 * 1024 * 1024


def test_an_application_is_closed_when_its_reader_leaves(web):
    with web.connect(buffer=SMALL) as client:
        client.sendall(request("/endless"))
        client.recv(1000)

    assert web.ask(request("/was_closed", "Connection: close")).endswith(b"True")


def ask_who(service):
    with service.connect() as client:
        client.sendall(request("/users/me", "Connection: close"))
        return client.recv(12)


@pytest.mark.slow
def test_readers_of_public_files_take_no_slot_from_the_api(migrated_sqlite):
    variables = {"DATABASE_URL": f"sqlite:///{migrated_sqlite}", "WEB_THREADS": "4"}
    with serve(**variables, WEB_CONCURRENCY="1") as service, ExitStack() as stack:
        for _ in range(CLIENTS):
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
            client.connect((HOST, service.port))
            client.sendall(request("/docs/swagger-ui-bundle.js"))
        eventually(lambda: ask_who(service) == b"HTTP/1.1 401")  # all files are made by then
        answers = [ask_who(service) for _ in range(20)]

    assert set(answers) == {b"HTTP/1.1 401"}


@pytest.mark.slow
def test_a_client_that_does_not_read_is_parted_from():
    with serving(*IMPATIENT) as impatient, impatient.connect(buffer=SMALL) as client:
        client.sendall(request("/large"))
        time.sleep(4)
        received = read_to_reset(client)

    assert 0 <= received < 4 * 1024 * 1024


def test_a_client_has_a_time_of_grace_then_a_rate_and_an_end():
    pace = Pace(10)
    pace.begin(100)

    assert pace.left(105) == 5
    pace.move(4096 * 3)
    assert pace.left(105) == 8
    pace.end(105)
    assert pace.left(1000) == 8  # it is not the client that lets wait now
    pace.move(4096 * 100_000)
    pace.begin(2000)
    assert pace.left(2000) == 3595


class Clock:
    """Stands still until it is moved."""

    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now


def test_the_pieces_of_an_answer_share_one_time_of_grace(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(wires, "time", clock)
    piece = bytes(16 * SMALL)  # 16 seconds at the minimum rate
    lateness = []
    server, client = socket.socketpair()
    with server, client:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)
        wire = Wire(server)
        for _ in range(2):
            assert not wire.send([piece])  # the client does not read it yet
            clock.now += GRACE_SECONDS - 1
            lateness.append(wire.is_late(clock.now))
            while not wire.send_more():
                client.recv(len(piece))

    assert lateness == [False, True]
