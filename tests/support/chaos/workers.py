"""Faults of workers, and of the processes in their pools."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tests.support.chaos.fault import Fault, Part
from tests.support.chaos.scene import Chaos, are_gone, send
from tests.support.load import Attempt
from tests.support.ports import children
from tests.support.waiting import eventually

STOP_SECONDS = 15.0
TERMINATION_GRACE_SECONDS = 30.0  # the default of the setting


@contextmanager
def worker_is_killed(chaos: Chaos) -> Iterator[None]:
    """Kill a worker; another one comes."""
    chaos.workers.pop(chaos.random.randrange(len(chaos.workers))).kill()
    yield
    chaos.workers.append(chaos.start_worker())


@contextmanager
def worker_is_stopped(chaos: Chaos) -> Iterator[None]:
    """Stop a worker; another one comes."""
    began = time.time()
    status, seconds = chaos.workers.pop(chaos.random.randrange(len(chaos.workers))).stop()
    is_served = is_anybody_served(chaos.load.attempts, began, time.time())
    chaos.check(
        stops_well(status, seconds, is_served=is_served),
        f"a worker stops: status {status}, {seconds:.1f} s",
    )
    yield
    chaos.workers.append(chaos.start_worker())


@contextmanager
def pool_is_killed(chaos: Chaos) -> Iterator[None]:
    """Kill the processes that work on an import; the worker starts others."""
    chaos.imports.begin(chaos.web.url)
    pids = eventually(lambda: _pool(chaos))
    for pid in pids:
        send(pid, signal.SIGKILL)
    yield
    chaos.check(are_gone(pids), "a process of the pool that was killed is gone")


def is_anybody_served(attempts: Sequence[Attempt], began: float, ended: float) -> bool:
    """Tell whether users were registered from beginning to end within a time."""
    return any(
        each.status == 201 and began <= each.sent_at and each.sent_at + each.seconds <= ended
        for each in list(attempts)
    )


def stops_well(status: int, seconds: float, *, is_served: bool) -> bool:
    """Tell whether a worker ended as it should.

    A frozen process of PostgreSQL may hold a lock for which all others wait. Nobody is served
    then, and the worker, which cannot store its results, ends within its budget.
    """
    if is_served:
        return status == 0 and seconds < STOP_SECONDS
    return status in (0, 1) and seconds < TERMINATION_GRACE_SECONDS


def _pool(chaos: Chaos) -> list[int]:
    """Return the processes of the pools: those that the fork servers made."""
    servers = [server for worker in chaos.workers for server in worker.children]
    return [pid for server in servers for pid in children(server)]


FAULTS = {
    "a worker is killed": Fault(worker_is_killed, frozenset({Part.WORKERS}), may_repeat=True),
    "a worker is stopped": Fault(worker_is_stopped, frozenset({Part.WORKERS})),
    "the processes of the pool are killed": Fault(
        pool_is_killed, frozenset({Part.WORKERS, Part.DATABASE})
    ),
}
