"""Faults of the hosts: their clocks, their name server, their disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import text

from tests.support.chaos import hosts
from tests.support.chaos.fault import Fault, Happening, Part
from tests.support.chaos.scene import Chaos
from tests.support.operating import END_SESSIONS, operating

HOUR = 3600
CLOCKS = frozenset({Part.CLOCKS})


def web_clock_is(seconds: int) -> Happening:
    """Return a fault of the web host's clock."""

    @contextmanager
    def fault(chaos: Chaos) -> Iterator[None]:
        with chaos.clocks[chaos.web].being(seconds):
            yield

    return fault


def worker_clock_is(seconds: int) -> Happening:
    """Return a fault of the clock of one worker's host; the other one's is right."""

    @contextmanager
    def fault(chaos: Chaos) -> Iterator[None]:
        worker = chaos.random.choice(chaos.workers)
        with chaos.clocks[worker].being(seconds):
            yield

    return fault


@contextmanager
def name_server_is_silent(chaos: Chaos) -> Iterator[None]:
    """Let look-ups wait for an answer that does not come, and let them be needed."""
    with chaos.hosts.names.being(hosts.SILENT):
        with operating(chaos.database.url) as operator:
            operator.execute(text(END_SESSIONS))
        yield


@contextmanager
def disk_is_full(chaos: Chaos) -> Iterator[None]:
    """Leave no room for the log, the counts of the web workers and temporary files."""
    pids = [each.process.pid for each in (chaos.web, *chaos.workers)]
    with chaos.disk.full(pids):
        yield


# These replace functions of the C library.
INTERPOSED = {
    "the web host's clock is an hour ahead": Fault(web_clock_is(HOUR), CLOCKS),
    "the web host's clock is an hour behind": Fault(web_clock_is(-HOUR), CLOCKS),
    "a worker's clock is an hour ahead": Fault(worker_clock_is(HOUR), CLOCKS),
    "a worker's clock is an hour behind": Fault(worker_clock_is(-HOUR), CLOCKS),
    "the name server does not answer": Fault(
        name_server_is_silent, frozenset({Part.NAMES, Part.DATABASE}), may_repeat=True
    ),
}
FAULTS = {
    # A worker says in its log that it began, and why a try failed.
    "the disk is full": Fault(disk_is_full, frozenset({Part.DISK, Part.WORKERS}), may_repeat=True),
}
if hosts.can_be_made():
    FAULTS |= INTERPOSED
