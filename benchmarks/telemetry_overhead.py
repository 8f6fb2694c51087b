"""The cost of telemetry for a request: python -m benchmarks.telemetry_overhead [rounds] [calls].

Each setting is an application in a process of its own, called without a network between,
while a collector takes what is exported. The processes take turns, so that noise meets all
of them alike. Printed is CPU time of the process, exporting included: the median of the
rounds, the least and the most.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask

    from config import AppConfig

ROOT = Path(__file__).resolve().parent.parent

SETTINGS: dict[str, dict[str, str] | None] = {
    "off": None,
    "no endpoint": {},
    "0 %": {"OTEL_TRACES_SAMPLER_ARG": "0"},
    "10 %": {"OTEL_TRACES_SAMPLER_ARG": "0.1"},
    "100 %": {"OTEL_TRACES_SAMPLER_ARG": "1"},
}
SAMPLER = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio"}


def main(rounds: int = 15, calls: int = 1000) -> None:
    """Measure all settings in turns and print a table."""
    from tests.support.collector import collector

    with collector() as sink, tempfile.TemporaryDirectory() as folder, ExitStack() as running:
        children: dict[str, subprocess.Popen[str]] = {}
        for name, variables in SETTINGS.items():
            endpoint = sink.variables if variables else {}
            extra = {"OTEL_BSP_SCHEDULE_DELAY": "1000", "OTEL_METRIC_EXPORT_INTERVAL": "30000"}
            own = {**endpoint, **extra, **SAMPLER, **(variables or {})}
            own["DATABASE_URL"] = f"sqlite:///{folder}/{len(children)}.db"
            mode = "off" if variables is None else "on"
            children[name] = running.enter_context(_child(mode, calls, own))
        for child in children.values():
            _turn(child)  # warms up
        figures: dict[str, list[tuple[float, float]]] = {name: [] for name in children}
        for _ in range(rounds):
            for name, child in children.items():
                figures[name].append(_turn(child))
        for child in children.values():
            assert child.stdin is not None
            child.stdin.close()
    _print(figures)


def _child(mode: str, calls: int, variables: dict[str, str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "benchmarks.telemetry_overhead", "child", mode, str(calls)]
    environment = {"PATH": os.environ.get("PATH", ""), "REDIS_URL": "", **variables}
    environment |= {"API_KEY": "benchmark", "RATE_LIMIT_ENABLED": "false"}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def _turn(child: subprocess.Popen[str]) -> tuple[float, float]:
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write("go\n")
    child.stdin.flush()
    read, create = child.stdout.readline().split()
    return float(read), float(create)


def _print(figures: dict[str, list[tuple[float, float]]]) -> None:
    print(f"{'telemetry':12} {'GET /users/{id}, µs':>28} {'POST /users, µs':>28}")
    base = [statistics.median(each) for each in zip(*figures["off"], strict=True)]
    for name, turns in figures.items():
        cells = []
        for column, start in zip(zip(*turns, strict=True), base, strict=True):
            median = statistics.median(column)
            span = f"({min(column):.0f}-{max(column):.0f})"
            cells.append(f"{median:6.0f} {span:>12} {median - start:+6.0f}")
        print(f"{name:12} {cells[0]:>28} {cells[1]:>28}")


def child(mode: str, calls: int) -> None:
    """Serve calls whenever the parent says so, and tell it the CPU time of one, in µs."""
    from werkzeug.test import create_environ

    from bootstrap import open_database
    from chassis.storage import migrations
    from chassis.telemetry import instruments
    from config import AppConfig
    from observability import setup_logging

    config = AppConfig.from_env()
    with Path(os.devnull).open("w") as nowhere, tempfile.TemporaryDirectory() as counts:
        setup_logging(config, nowhere)
        instruments.count_together(counts)
        migrations.upgrade(open_database(config))
        app = _make_app(mode, config)
        client = app.test_client()
        numbers = iter(range(10**9))
        user = client.post("/users", json={"email": "a@example.com", "name": "A"}).get_json()
        read = create_environ(f"/users/{user['id']}", headers={"X-API-Key": "benchmark"})

        def call(environ: dict[str, object]) -> None:
            response = app.wsgi_app(environ, lambda *_: lambda _: None)
            b"".join(response)
            getattr(response, "close", lambda: None)()

        def create() -> None:
            body = {"email": f"user{next(numbers)}@example.com", "name": "A"}
            call(create_environ("/users", method="POST", json=body))

        for _ in sys.stdin:
            gets = _cpu(calls, lambda: call(dict(read)))
            posts = _cpu(calls // 4, create)
            print(gets, posts, flush=True)


def _make_app(mode: str, config: AppConfig) -> Flask:
    """Make the application; off is without hooks, ids and spans around requests."""
    import app
    from benchmarks import silent
    from observability import Telemetry

    telemetry = Telemetry(config)
    if mode == "off":
        return silent.create_app(config, telemetry=telemetry)
    return app.create_app(config, telemetry=telemetry)


def _cpu(calls: int, call: Callable[[], None]) -> float:
    started = time.process_time()
    for _ in range(calls):
        call()
    return (time.process_time() - started) / calls * 1e6


if __name__ == "__main__":
    if sys.argv[1:2] == ["child"]:
        child(sys.argv[2], int(sys.argv[3]))
    else:
        main(*map(int, sys.argv[1:]))
