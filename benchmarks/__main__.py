"""`python -m benchmarks quick`, and so on; the Makefile has a target for each."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Self

from benchmarks import (
    budget,
    growth,
    imports,
    instructions,
    latency,
    lifetime,
    mails,
    profile,
    results,
    subjects,
    tables,
    throughput,
)
from benchmarks.database import ROOT, Database, durable_server
from benchmarks.goals import BESIDE_IMPORT, GROWN_USERS
from benchmarks.progress import Progress
from benchmarks.rounds import select, summarize
from benchmarks.servers import Server
from benchmarks.sink import absent_collector, live_collector, silent_collector
from tests.support.servers import PostgreSQLServer


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How much is measured."""

    kind: str
    subjects: tuple[subjects.Subject, ...]
    workloads: tuple[str, ...]
    rounds: int
    cell_seconds: float
    lifetime_rounds: int
    latency_rounds: int
    latency_seconds: float
    cleaned_users: int
    worker_rounds: int
    mails: int
    listed_users: int
    total_seconds: float  # about


FULL = Scale(
    kind="full",
    subjects=subjects.WITH_DATABASE,
    workloads=("W1", "W2", "W3"),
    rounds=5,
    cell_seconds=2.0,
    lifetime_rounds=5,
    latency_rounds=2,
    latency_seconds=10.0,
    cleaned_users=200_000,
    worker_rounds=5,
    mails=5_000,
    listed_users=200_000,
    total_seconds=930,
)
QUICK = Scale(
    kind="quick",
    subjects=tuple(
        each
        for each in subjects.WITH_DATABASE
        if each not in {subjects.ARTICLE, subjects.GRANIAN, subjects.NOT_EXPORTING}
    ),
    workloads=("W1", "W2"),
    rounds=3,
    cell_seconds=0.6,
    lifetime_rounds=1,
    latency_rounds=1,
    latency_seconds=2.0,
    cleaned_users=20_000,
    worker_rounds=1,
    mails=2_000,
    listed_users=50_000,
    total_seconds=165,
)


class Run:
    """PostgreSQL, a live collector, and the rows so far."""

    def __init__(self, kind: str, total_seconds: float) -> None:
        self.kind = kind
        self.progress = Progress(total_seconds)
        self.rows: list[dict[str, Any]] = []
        self.stack = ExitStack()

    def __enter__(self) -> Self:
        self.postgresql: PostgreSQLServer = self.stack.enter_context(durable_server())
        self.collector: str = self.stack.enter_context(live_collector())
        version = Database(self.postgresql, "lifetime").value("SHOW server_version")
        self.about = results.machine(version)
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stack.close()
        self.progress.finish()
        file = results.store(self.kind, self.about, self.rows)  # what there is, if it broke off
        print(f"Raw rows: {file.relative_to(ROOT)}\n")


def compare(scale: Scale) -> None:
    """Run everything but growth, and print the goals."""
    with Run(scale.kind, scale.total_seconds) as run:
        servers = throughput.checked_servers(
            scale.subjects, run.postgresql, run.collector, run.progress
        )
        with servers as started:
            run.rows += throughput.measure(
                started,
                scale.workloads,
                rounds=scale.rounds,
                seconds=scale.cell_seconds,
                progress=run.progress,
            )
            measure_latency(run, scale, {each.subject.key: each for each in started})
        measure_lifetime(run, scale)
        run.rows += mails.measure(
            run.postgresql,
            run.collector,
            scale.mails,
            rounds=scale.worker_rounds,
            progress=run.progress,
        )
        run.rows += imports.measure_speed(
            run.postgresql, run.collector, rounds=scale.worker_rounds, progress=run.progress
        )
        run.rows += growth.measure_size(
            run.postgresql,
            run.collector,
            scale.listed_users,
            rounds=scale.worker_rounds,
            seconds=scale.cell_seconds / 2,
            progress=run.progress,
        )
    show(scale.kind, "growth", "instructions")


def measure_latency(run: Run, scale: Scale, servers: dict[str, Server]) -> None:
    """Measure at a half of the saturation that was just found; at a quarter beside an import."""
    saturation = {workload: saturation_of(run.rows, workload) for workload in ("W1", "W2")}
    half, quarter = (
        {workload: rate / parts for workload, rate in saturation.items()} for parts in (2, 4)
    )
    ours = servers["ours"]
    length: dict[str, Any] = {"seconds": scale.latency_seconds, "progress": run.progress}
    run.rows += latency.measure(
        {"telemetry on": ours, "telemetry off": servers["silent"]},
        half,
        rounds=scale.latency_rounds,
        **length,
    )
    cleanup = latency.cleanup_of(scale.cleaned_users)
    run.rows += latency.measure_beside(ours, "beside a cleanup", cleanup, half, **length)
    users = imports.import_of(scale.latency_seconds, ours, run.collector)
    run.rows += latency.measure_beside(
        ours, BESIDE_IMPORT, users, quarter, rounds=scale.latency_rounds, **length
    )


def saturation_of(rows: list[dict[str, Any]], workload: str) -> float:
    """Return how many requests of a kind the service answers in a second, of the rows so far."""
    found = select(rows, suite="throughput", subject="ours", workload=workload)
    per_second = summarize(row["per_second"] for row in found)
    assert per_second is not None
    return per_second.median


def measure_lifetime(run: Run, scale: Scale) -> None:
    """Measure start, memory and exit, with nobody else running."""
    database = Database(run.postgresql, "starts")
    database.grow(1, 1000)
    rounds, progress = scale.lifetime_rounds, run.progress
    run.rows += lifetime.measure_starts(database, run.collector, rounds=rounds, progress=progress)
    run.rows += lifetime.measure_memory(database, run.collector, rounds=rounds, progress=progress)
    with absent_collector() as absent, silent_collector() as silent:
        collectors = {"live": run.collector, "absent": absent, "silent": silent}
        run.rows += lifetime.measure_exits(database, collectors, rounds=rounds, progress=progress)


def grow(users: int = GROWN_USERS, requests: int = 200_000) -> None:
    """Compare a small table with a large one, and watch a worker's memory."""
    with Run("growth", 600) as run:
        for size in (1000, users):
            run.rows += growth.measure_size(
                run.postgresql,
                run.collector,
                size,
                rounds=5,
                seconds=2.0,
                progress=run.progress,
            )
        run.rows += growth.measure_memory(run.postgresql, run.collector, requests, run.progress)
    show("growth")


def import_users() -> None:
    """Bring many users in and out, and compare what comes out with what went in."""
    with Run("import", 80) as run:
        run.rows += imports.measure_memory(run.postgresql, run.collector, run.progress)
        imports.check_killed(run.postgresql, run.collector, run.progress)
    show("import")


def count_instructions() -> None:
    """Count the instructions of a request, and fail when they are over the budget."""
    try:
        print(budget.judge(_count(), budget.python_minor()))
    except budget.OverBudget as error:
        sys.exit(str(error))


def record_instructions() -> None:
    """Count the instructions of a request, and make the counts the budget of this Python."""
    budget.record(budget.python_minor(), _count())


def count_telemetry() -> None:
    """Count the instructions of a request part by part, without and with traces recorded."""
    with Run("telemetry", len(instructions.CONDITIONS) * instructions.SECONDS) as run:
        database = Database(run.postgresql, "instructions")
        run.rows += instructions.measure_telemetry(database, run.collector, run.progress)
    print(tables.telemetry(run.rows))


def _count() -> dict[str, int]:
    with Run("instructions", instructions.SECONDS) as run:
        database = Database(run.postgresql, "instructions")
        run.rows += instructions.measure(database, run.collector, run.progress)
    print(f"{tables.instructions(run.rows)}\n")
    return budget.counts_of(run.rows)


def profile_all() -> None:
    """Show where the time goes, function by function."""
    with Run("profile", 60) as run:
        run.rows += profile.measure(run.postgresql, run.collector, run.progress)
    print(f"{tables.packages(run.rows)}\n\n{tables.functions(run.rows)}")


def show(*kinds: str) -> None:
    """Print the tables of the latest runs."""
    _, rows = results.load(results.LATEST, kinds)
    for name, make in results.TABLES.items():
        if name != "goals" and (content := make(rows)).count("\n") > 1:
            print(f"{name}\n\n{content}\n")
    print(f"goals\n\n{tables.goals(rows)}")


COMMANDS: dict[str, Callable[[], None]] = {
    "full": lambda: compare(FULL),
    "quick": lambda: compare(QUICK),
    "growth": grow,
    "import": import_users,
    "instructions": count_instructions,
    "instructions-record": record_instructions,
    "telemetry": count_telemetry,
    "profile": profile_all,
    "show": lambda: show("full", "growth", "import", "instructions"),
    "record": results.record,
}


def main() -> None:
    """Do what the argument says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("command", choices=COMMANDS)
    COMMANDS[parser.parse_args().command]()


if __name__ == "__main__":
    main()
