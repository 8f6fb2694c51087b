"""The costs of a process before and after its work: start, memory, exit."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks import cell, processes
from benchmarks.database import Database
from benchmarks.progress import Progress
from benchmarks.servers import running
from benchmarks.subjects import BARE_FLASK, OURS, TWIN, Subject

LOAD_SECONDS = 1.0
SUBJECTS = (OURS, TWIN, BARE_FLASK)


def measure_starts(
    database: Database, collector: str, *, rounds: int, progress: Progress
) -> Iterator[dict[str, Any]]:
    """Yield, round by round, how long each took to its first answer and what it weighs then."""
    for number in range(rounds + 1):
        for subject in random.sample(SUBJECTS, len(SUBJECTS)):
            progress.step(f"start {number}/{rounds} of {subject.label}", 2)
            own = database if subject.is_service else None
            with running(subject, database=own, collector=collector) as server:
                seconds = server.await_answer()
                cpu = sum(processes.cpu_seconds(server.process.pid).values())
            if number:  # the first start reads everything from the disk and compiles it
                names = {"subject": subject.key, "round": number}
                yield {
                    "suite": "start",
                    **names,
                    "first_answer_ms": seconds * 1000,
                    "cpu_ms": cpu * 1000,
                }


def measure_memory(
    database: Database, collector: str, *, rounds: int, progress: Progress
) -> Iterator[dict[str, Any]]:
    """Yield what master and workers weigh after a second of each workload."""
    for number in range(1, rounds + 1):
        for subject in SUBJECTS:
            workloads = ("W1", "W2", "W3") if subject.is_service else ("W3",)
            progress.step(f"memory {number}/{rounds} of {subject.label}", 2 + len(workloads))
            yield _weigh(subject, workloads, database, collector, number)


def _weigh(
    subject: Subject, workloads: Sequence[str], database: Database, collector: str, number: int
) -> dict[str, Any]:
    own = database if subject.is_service else None
    with running(subject, database=own, collector=collector) as server:
        server.await_answer()
        for workload in workloads:
            cell.load(server, workload, seconds=LOAD_SECONDS)
        pss = processes.pss_bytes(server.process.pid)
    return {"suite": "memory", "subject": subject.key, "round": number, "pss_mib": pss / 2**20}


def measure_exits(
    database: Database, collectors: Mapping[str, str], *, rounds: int, progress: Progress
) -> Iterator[dict[str, Any]]:
    """Yield how long SIGTERM takes with spans and metrics waiting, by state of the collector."""
    for number in range(1, rounds + 1):
        for state, collector in collectors.items():
            progress.step(f"exit {number}/{rounds}, collector {state}", 4)
            with running(OURS, database=database, collector=collector) as server:
                server.await_answer()
                cell.load(server, "W2", seconds=LOAD_SECONDS)
                seconds = server.stop()
            yield {"suite": "exit", "subject": state, "round": number, "exit_seconds": seconds}
