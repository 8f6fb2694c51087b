"""The goals of a benchmark, and whether they were reached."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.rounds import Row, Summary, by_round, noise, ratios, select, summarize

Measure = Callable[[Sequence[Row]], Summary | None]

GROWN_USERS = 3_000_000
BESIDE_IMPORT = "beside an import, at a quarter of saturation"

PEER_TITLES = {
    "fastapi_sqlalchemy": "FastAPI",
    "django_plain": "Django",
    "wsgi_psycopg2": "bare WSGI",
    "fastapi_equal": "FastAPI, equal work",
    "django_equal": "Django, equal work",
}
# Peer -> workload -> our throughput over the peer's, at least.
PEER_TARGETS = {
    "fastapi_sqlalchemy": {"W1": 2.0, "W2": 2.4},
    "django_plain": {"W1": 1.2, "W2": 2.0},
    "wsgi_psycopg2": {"W1": 0.68, "W2": 0.80},
    "fastapi_equal": {"W1": 3.0, "W2": 3.0},
    "django_equal": {"W1": 1.8, "W2": 2.8},
}


@dataclass(frozen=True, kw_only=True)
class Goal:
    """One figure and where it should be."""

    text: str
    target: float
    measure: Measure
    noise: Measure
    is_ceiling: bool = False  # whether the figure should stay below the target
    unit: str = ""
    digits: int = 2

    def verdict(self, rows: Sequence[Row]) -> str:
        """Say whether the median is where it should be."""
        found = self.measure(rows)
        if found is None:
            return "not measured"
        is_reached = found.median <= self.target if self.is_ceiling else found.median >= self.target
        return "reached" if is_reached else "not reached"


def throughput_over(peer: str, workload: str) -> Measure:
    """Return the measure of our throughput over a peer's."""
    return lambda rows: ratios(
        rows, "per_second", "ours", peer, suite="throughput", workload=workload
    )


def telemetry_share(workload: str, over: str = "ours", under: str = "silent") -> Measure:
    """Return the measure of telemetry's CPU for a request, over that of a bare read.

    The difference of two variants of the service is the telemetry; the read is a GET of the bare
    WSGI application in the same round, which says how fast the machine was.
    """

    def measure(rows: Sequence[Row]) -> Summary | None:
        wanted = {"suite": "throughput", "workload": workload}
        loud = by_round(rows, "server_us", subject=over, **wanted)
        quiet = by_round(rows, "server_us", subject=under, **wanted)
        bare = by_round(
            rows, "server_us", suite="throughput", subject="wsgi_psycopg2", workload="W2"
        )
        shared = loud.keys() & quiet.keys() & bare.keys()
        return summarize((loud[each] - quiet[each]) / bare[each] for each in shared)

    return measure


def _noise(field: str, **wanted: object) -> Measure:
    return lambda rows: noise(rows, field, **wanted)


def _over_bare(suite: str, field: str) -> Measure:
    return lambda rows: ratios(rows, field, "ours", "flask_bare", suite=suite)


def _instructions(workload: str) -> Measure:
    def measure(rows: Sequence[Row]) -> Summary | None:
        found = select(rows, suite="instructions", workload=workload)
        return summarize(row["instructions"] / 1e6 for row in found)

    return measure


def _slowest_beside_import(rows: Sequence[Row]) -> Summary | None:
    waits = [
        summarize(
            by_round(
                rows, "p99_ms", suite="latency", subject=BESIDE_IMPORT, workload=workload
            ).values()
        )
        for workload in ("W1", "W2")
    ]
    return max(filter(None, waits), default=None)


def _slowest_exit(rows: Sequence[Row]) -> Summary | None:
    states = [
        summarize(by_round(rows, "exit_seconds", suite="exit", subject=state).values())
        for state in ("absent", "silent")
    ]
    return max(filter(None, states), default=None)


def list_page_over_first(place: str) -> Measure:
    """Return the measure of how much longer a list page takes than the first of many users."""

    def measure(rows: Sequence[Row]) -> Summary | None:
        users = max((row["users"] for row in select(rows, suite="growth")), default=0)
        wanted = {"suite": "growth", "users": users}
        slow = by_round(rows, "per_second", workload=f"{place} page", **wanted)
        fast = by_round(rows, "per_second", workload="first page", **wanted)
        return summarize(fast[each] / slow[each] for each in fast.keys() & slow.keys())

    return measure


def _unknown(_rows: Sequence[Row]) -> None:
    return None


def _peer_goals() -> list[Goal]:
    return [
        Goal(
            text=f"{workload} over {title}",
            target=target,
            measure=throughput_over(peer, workload),
            noise=_noise("per_second", suite="throughput", workload=workload),
        )
        for peer, title in PEER_TITLES.items()
        for workload, target in PEER_TARGETS[peer].items()
    ]


def _telemetry_goals(targets: Mapping[str, float]) -> list[Goal]:
    return [
        Goal(
            text=f"telemetry's CPU of a {workload}, over that of a bare WSGI W2",
            target=target,
            measure=telemetry_share(workload),
            noise=telemetry_share(workload, "twin", "ours"),
            is_ceiling=True,
        )
        for workload, target in targets.items()
    ]


def _instruction_goals(targets: Mapping[str, float]) -> list[Goal]:
    return [
        Goal(
            text=f"instructions of a {workload}, bytes to bytes",
            target=target,
            measure=_instructions(workload),
            noise=_unknown,
            is_ceiling=True,
            unit=" M",
        )
        for workload, target in targets.items()
    ]


GOALS = [
    *_peer_goals(),
    *_telemetry_goals({"W1": 0.45, "W2": 0.30}),
    *_instruction_goals({"W1": 1.5, "W2": 0.9}),
    Goal(
        text="mails a second of the worker, over a plain loop of posts",
        target=0.6,
        measure=lambda rows: ratios(rows, "per_second", "worker", "loop", suite="worker"),
        noise=_unknown,
    ),
    Goal(
        text="import of 100,000 users, over COPY of the same rows",
        target=0.30,
        measure=lambda rows: ratios(rows, "per_second", "import", "copy", suite="import"),
        noise=_unknown,
    ),
    Goal(
        text="p99 of callers beside an import, at a quarter of saturation",
        target=250.0,
        measure=_slowest_beside_import,
        noise=_unknown,
        is_ceiling=True,
        unit=" ms",
        digits=0,
    ),
    Goal(
        text="start to first answer, over bare Flask",
        target=2.7,
        measure=_over_bare("start", "first_answer_ms"),
        noise=_noise("first_answer_ms", suite="start"),
        is_ceiling=True,
    ),
    Goal(
        text="memory of master and 2 workers, over bare Flask",
        target=2.4,
        measure=_over_bare("memory", "pss_mib"),
        noise=_noise("pss_mib", suite="memory"),
        is_ceiling=True,
    ),
    Goal(
        text="SIGTERM to exit, no answer from the collector",
        target=1.0,
        measure=_slowest_exit,
        noise=_unknown,
        is_ceiling=True,
        unit=" s",
    ),
    Goal(
        text="time of the last list page, over the first",
        target=1.2,
        measure=list_page_over_first("last"),
        noise=list_page_over_first("first again"),
        is_ceiling=True,
    ),
]
