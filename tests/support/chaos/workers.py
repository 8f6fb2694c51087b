"""Faults of workers, and of the processes in their pools."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.chaos.fault import Fault, Part
from tests.support.chaos.scene import Chaos, are_gone, send
from tests.support.ports import children
from tests.support.waiting import eventually


@contextmanager
def worker_is_killed(chaos: Chaos) -> Iterator[None]:
    """Kill a worker; another one comes."""
    chaos.workers.pop(chaos.random.randrange(len(chaos.workers))).kill()
    yield
    chaos.workers.append(chaos.start_worker())


@contextmanager
def worker_is_stopped(chaos: Chaos) -> Iterator[None]:
    """Stop a worker; another one comes."""
    status, seconds = chaos.workers.pop(chaos.random.randrange(len(chaos.workers))).stop()
    chaos.check(status == 0 and seconds < 15, f"a worker stops: status {status}, {seconds:.1f} s")
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
