from __future__ import annotations

import threading

import pytest

from chassis.clients.connection_pool import ConnectionPool
from tests.support.waiting import DEADLINE_SECONDS


class Line:
    """A connection that notes its end."""

    def __init__(self):
        self.is_kept = True
        self.ended = threading.Event()

    def is_quiet(self):
        return True

    def close(self):
        self.ended.set()


@pytest.fixture
def brief():
    """A pool that keeps connections for a moment."""
    pool: ConnectionPool[Line] = ConnectionPool(idle_seconds=0.05)
    yield pool
    pool.close()


def test_a_connection_that_nobody_uses_is_closed_without_another_call(brief):
    for _ in range(2):  # the second one comes when the first sweep is over
        line = Line()
        brief.give("place", line)

        assert line.ended.wait(DEADLINE_SECONDS)

    assert brief.take("place") is None


def test_each_connection_of_a_burst_is_closed(brief):
    lines = [Line() for _ in range(20)]
    for number, line in enumerate(lines):
        brief.give(number % 3, line)

    assert all(line.ended.wait(DEADLINE_SECONDS) for line in lines)


def test_the_last_one_that_was_used_goes_first():
    pool: ConnectionPool[Line] = ConnectionPool()
    first, second = Line(), Line()
    pool.give("place", first)
    pool.give("place", second)

    assert [pool.take("place"), pool.take("place")] == [second, first]
    pool.close()


def test_nothing_is_kept_in_a_pool_that_is_closed():
    pool: ConnectionPool[Line] = ConnectionPool()
    kept, late = Line(), Line()
    pool.give("place", kept)

    pool.close()
    pool.give("place", late)

    assert kept.ended.is_set()
    assert late.ended.is_set()


def test_a_call_that_is_done_does_not_fail_where_no_thread_is_left(monkeypatch):
    def start(_thread):
        raise RuntimeError("can't start new thread")

    pool: ConnectionPool[Line] = ConnectionPool()
    late, kept = Line(), Line()
    with monkeypatch.context() as exhausted:
        exhausted.setattr(threading.Thread, "start", start)
        pool.give("place", late)
    pool.give("place", kept)

    assert late.ended.is_set()
    assert pool.take("place") is kept
    pool.close()
