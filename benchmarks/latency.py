"""Latency at a fixed rate, as a caller sees it who does not wait in turn."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from benchmarks import cell
from benchmarks.database import ROOT, Database
from benchmarks.progress import Progress
from benchmarks.servers import Server
from benchmarks.subjects import API_KEY

LONG_AGO = "2020-01-01"


def measure(
    servers: Mapping[str, Server],
    rates: Mapping[str, float],
    *,
    seconds: float,
    rounds: int,
    progress: Progress,
) -> Iterator[dict[str, Any]]:
    """Yield a row for each condition, workload and round.

    Args:
        servers: By condition: the service with telemetry, without.
        rates: Workload -> requests a second.
        seconds: How long each lasts.
        rounds: How often.
        progress: Is told.
    """
    for number in range(1, rounds + 1):
        for condition, server in servers.items():
            for workload, rate in rates.items():
                progress.step(f"latency of {workload} at {rate:.0f}/s, {condition}", seconds)
                outcome = cell.load(server, workload, seconds=seconds, rate=rate)
                yield _row(condition, workload, number, rate, cell.row(outcome))


def measure_beside(  # noqa: PLR0913 - what, where, how much, and whom to tell
    server: Server,
    condition: str,
    background: Callable[[Database], Any],
    rates: Mapping[str, float],
    *,
    seconds: float,
    progress: Progress,
    rounds: int = 1,
) -> Iterator[dict[str, Any]]:
    """Yield a row for each round and workload, measured while something else is going on."""
    assert server.database is not None
    for number in range(1, rounds + 1):
        for workload, rate in rates.items():
            progress.step(f"latency of {workload} at {rate:.0f}/s, {condition}", seconds)
            with background(server.database):
                outcome = cell.load(server, workload, seconds=seconds, rate=rate)
            yield _row(condition, workload, number, rate, cell.row(outcome))


def cleanup_of(count: int) -> Callable[[Database], Any]:
    """Return what runs the cleanup over `count` users that were deleted long ago."""

    @contextmanager
    def clean_up(database: Database) -> Iterator[None]:
        database.grow(10_000_001, 10_000_000 + count, status="deleted", moment=LONG_AGO)
        environment = {
            **os.environ,
            "DATABASE_URL": database.url,
            "API_KEY": API_KEY,
            "REDIS_URL": "",
        }
        command = [sys.executable, "app.py", "admin", "cleanup"]
        with subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            yield
            process.terminate()
        database.execute("DELETE FROM users WHERE status = 'deleted'")

    return clean_up


def _row(
    condition: str, workload: str, number: int, rate: float, figures: dict[str, Any]
) -> dict[str, Any]:
    names = {"subject": condition, "workload": workload, "round": number, "rate": rate}
    return {"suite": "latency", **names, **figures}
