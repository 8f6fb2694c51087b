"""Saturation: interleaved rounds in random order, everybody on the same work."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from benchmarks import answers, cell, equal_work
from benchmarks.database import Database
from benchmarks.progress import Progress
from benchmarks.servers import Server, running
from benchmarks.subjects import Subject
from tests.support.servers import PostgreSQLServer

WARM_UP_SECONDS = 0.5


@contextmanager
def checked_servers(
    subjects: Sequence[Subject], postgresql: PostgreSQLServer, collector: str, progress: Progress
) -> Iterator[list[Server]]:
    """Start servers one after the other, and check that each does what is to be timed."""
    with ExitStack() as stack:
        started = []
        for subject in subjects:
            progress.step(f"starting {subject.label}", 2)
            database = Database(postgresql, f"throughput_{subject.key}")
            database.grow(1, cell.SEEDED_USERS)
            server = stack.enter_context(running(subject, database=database, collector=collector))
            server.await_answer()
            answers.check(server)
            started.append(server)
        progress.step("checking that peers do equal work", 8)
        equal_work.check(started, collector)
        yield started


def measure(
    servers: Sequence[Server],
    workloads: Sequence[str],
    *,
    rounds: int,
    seconds: float,
    progress: Progress,
) -> Iterator[dict[str, Any]]:
    """Yield a row for each server, workload and round."""
    for server in servers:
        for workload in workloads:
            progress.step(f"warming up {server.subject.label}", WARM_UP_SECONDS)
            cell.load(server, workload, seconds=WARM_UP_SECONDS)
    cells = [(server, workload) for server in servers for workload in workloads]
    for number in range(1, rounds + 1):
        random.shuffle(cells)
        for server, workload in cells:
            progress.step(f"round {number}/{rounds}: {workload}, {server.subject.label}", seconds)
            outcome = cell.load(server, workload, seconds=seconds)
            names = {"subject": server.subject.key, "workload": workload, "round": number}
            yield {"suite": "throughput", **names, **cell.row(outcome)}
