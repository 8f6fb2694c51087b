"""Connections come in fairly, by both families, and wait where there is no place for them."""

from __future__ import annotations

import errno
import socket
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import pytest

from chassis.http import balance
from chassis.http.entrance import GIVEN_UP, SPARE_CONNECTIONS, Entrance, addresses
from chassis.http.worker import Worker
from tests.http.harness import request, serving
from tests.support.ports import HOST

CLOSE = request("/", "Connection: close")


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.fixture
def counts(monkeypatch):
    """The memory that workers share: whether they stop, then their connections plus one."""
    counts = [0] * (balance._SLOTS + 1)  # noqa: SLF001 - in place of shared memory
    monkeypatch.setattr(balance, "_shared", counts)
    return counts


class Listener:
    """A listening socket as gunicorn has it, on which nobody comes."""

    def __init__(self):
        self.is_closed = False
        self.asked = 0

    def getsockname(self):
        return ("::", 80, 0, 0)

    def fileno(self):
        return 99

    def accept(self):
        assert not self.is_closed
        self.asked += 1
        raise OSError(errno.EAGAIN, "nobody")

    def close(self):
        self.is_closed = True


class Loop:
    """Keeps what is to be done."""

    def __init__(self):
        self.readers: dict[int, tuple[Any, ...]] = {}
        self.later: list[tuple[Any, ...]] = []

    def add_reader(self, number, *callback):
        self.readers[number] = callback

    def remove_reader(self, number):
        self.readers.pop(number, None)

    def call_later(self, _seconds, *callback):
        self.later.append(callback)


class Resting:
    """A connection, idle or at work, that notes when it is closed."""

    def __init__(self, began_at, *, is_idle=True, is_busy=False):
        self.began_at = began_at
        self.is_idle = is_idle
        self.is_busy = is_busy
        self.is_closed = False

    def close(self):
        self.is_closed = True


def entrance(connections=(), places=1000, management_port=0):
    worker: Any = SimpleNamespace(
        age=1,
        cfg=SimpleNamespace(workers=2, worker_connections=places),
        connections=set(connections),
        loop=Loop(),
        management_port=management_port,
    )
    listener = Listener()
    opened = Entrance(worker, [listener])
    opened.watch()
    return opened, listener, worker.loop


def run(callback):
    callback[0](*callback[1:])


@pytest.mark.parametrize(
    ("others", "own", "gives_way"),
    [
        ([], 0, False),
        ([], 9, False),
        ([3], 3, False),
        ([4, 5], 3, False),
        ([2], 3, True),
        ([9, 0], 1, True),
    ],
)
def test_a_worker_leaves_a_connection_to_one_that_has_fewer(counts, others, own, gives_way):
    counts[1 : len(others) + 2] = [own + 1, *(each + 1 for each in others)]
    _, listener, loop = entrance(range(own))

    run(loop.readers[99])
    at_once = listener.asked
    for each in loop.later:
        run(each)

    assert (at_once, listener.asked) == ((0, 1) if gives_way else (1, 1))
    assert 99 in loop.readers


def test_a_worker_that_ended_has_no_connections_left(counts):
    balance.count(1, 7)

    Worker.forget(age=1)

    assert not any(counts)


def test_nothing_is_accepted_from_a_listener_that_is_closed(counts):
    counts[2] = 1
    opened, listener, loop = entrance(range(3))
    arrived = loop.readers[99]
    run(arrived)  # and leaves it to the other for a moment

    opened.close()
    for each in loop.later:
        run(each)

    assert listener.is_closed
    assert listener.asked == 1  # who had connected already
    assert loop.readers == {}


def test_for_a_new_client_those_that_rest_for_longest_make_room(counts):
    resting = [Resting(number) for number in (7, 3, 11, 0, 5, 9, 1, 10, 2, 8, 4, 6)]
    at_work = [Resting(-1, is_idle=False), Resting(-2, is_busy=True)]
    counts[1] = 15  # one more than this worker has; there is no other
    _, listener, loop = entrance([*resting, *at_work], places=14)

    run(loop.readers[99])

    assert sorted(each.began_at for each in resting if each.is_closed) == [*range(GIVEN_UP)]
    assert not any(each.is_closed for each in at_work)
    assert listener.asked == 1


def test_without_room_new_clients_wait_until_a_connection_has_closed(counts):
    at_work = [Resting(number, is_busy=True) for number in range(4)]
    counts[1] = 5
    opened, listener, loop = entrance(at_work, places=4)

    run(loop.readers.pop(99))
    asked, is_left = listener.asked, 99 not in loop.readers
    opened.watch()  # as a connection that closes does

    assert (asked, is_left) == (0, True)
    assert 99 in loop.readers


@pytest.mark.parametrize(("connections", "asked"), [(4, 1), (4 + SPARE_CONNECTIONS, 0)])
def test_a_port_for_probes_has_places_that_callers_cannot_take(counts, connections, asked):
    at_work = [Resting(number, is_busy=True) for number in range(connections)]
    counts[1] = connections + 1
    _, listener, loop = entrance(at_work, places=4, management_port=80)

    run(loop.readers[99])

    assert listener.asked == asked


def test_ipv6_takes_ipv4_in_where_both_are_there():
    if not has_ipv6():
        assert addresses(80) == ["0.0.0.0:80"]
        pytest.skip("there is no IPv6 here")
    with serving(host="::") as web:
        old = web.ask(CLOSE)
        with web.connect(host="::1") as client:
            client.sendall(CLOSE)
            new = client.recv(65536)

    assert addresses(80)[0] == "[::]:80"
    assert f"REMOTE_ADDR={HOST}\n".encode() in old
    assert b"REMOTE_ADDR=::1\n" in new


@pytest.mark.slow
def test_where_descriptors_run_out_others_wait_and_nobody_loses_anything():
    with (
        serving(prefix=("prlimit", "--nofile=64:64")) as web,
        ExitStack() as stack,
        web.connect() as busy,
    ):
        busy.sendall(request("/slow?2"))
        idle = [stack.enter_context(web.connect()) for _ in range(100)]
        for client in idle:
            client.sendall(request())
        answered = busy.recv(65536)
        after = web.ask(CLOSE)
        workers, log = web.workers, web.log

    assert answered.endswith(b"slow")
    assert after.startswith(b"HTTP/1.1 200 ")
    assert log.count("Booting worker") == len(workers) == 1


@pytest.mark.slow
def test_idle_connections_are_given_up_when_there_are_too_many():
    with serving(worker_connections=20) as web, ExitStack() as stack:
        for _ in range(20):
            client = stack.enter_context(web.connect())
            client.sendall(request())
            client.recv(65536)

        answers = [web.ask(CLOSE) for _ in range(40)]

    assert all(each.startswith(b"HTTP/1.1 200 ") for each in answers)
