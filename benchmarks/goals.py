"""The goals of a benchmark, and whether they were reached."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.rounds import Row, Summary, by_round, noise, ratios, select, summarize

Measure = Callable[[Sequence[Row]], Summary | None]

GROWN_USERS = 3_000_000


@dataclass(frozen=True, kw_only=True)
class Goal:
    """One figure and where it should be."""

    text: str
    target: float
    measure: Measure
    noise: Measure
    is_ceiling: bool = False  # whether the figure should stay below the target
    unit: str = ""

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


def _telemetry(field: str, workload: str) -> Measure:
    # Less CPU is better and more throughput is, so one of the ratios is turned over.
    pair = ("ours", "silent") if field == "per_second" else ("silent", "ours")
    return lambda rows: ratios(rows, field, *pair, suite="throughput", workload=workload)


def _noise(field: str, **wanted: object) -> Measure:
    return lambda rows: noise(rows, field, **wanted)


def _over_bare(suite: str, field: str) -> Measure:
    return lambda rows: ratios(rows, field, "ours", "flask_bare", suite=suite)


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


def _peer_goals(title: str, peer: str, targets: dict[str, float]) -> list[Goal]:
    return [
        Goal(
            text=f"{workload} over {title}",
            target=target,
            measure=throughput_over(peer, workload),
            noise=_noise("per_second", suite="throughput", workload=workload),
        )
        for workload, target in targets.items()
    ]


def _telemetry_goals(target: float) -> list[Goal]:
    return [
        Goal(
            text=f"{workload} with telemetry over without, {words}",
            target=target,
            measure=_telemetry(field, workload),
            noise=_noise(field, suite="throughput", workload=workload),
        )
        for workload in ("W1", "W2")
        for field, words in (("per_second", "throughput"), ("server_us", "CPU"))
    ]


GOALS = [
    *_peer_goals("FastAPI", "fastapi_sqlalchemy", {"W1": 2.0, "W2": 1.6}),
    *_peer_goals("Django", "django_plain", {"W1": 1.3, "W2": 1.7}),
    *_peer_goals("bare WSGI", "wsgi_psycopg2", {"W1": 0.72, "W2": 0.60}),
    *_telemetry_goals(0.90),
    Goal(
        text="SIGTERM to exit, no answer from the collector",
        target=1.0,
        measure=_slowest_exit,
        noise=_unknown,
        is_ceiling=True,
        unit=" s",
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
        target=2.5,
        measure=_over_bare("memory", "pss_mib"),
        noise=_noise("pss_mib", suite="memory"),
        is_ceiling=True,
    ),
    Goal(
        text="time of the last list page, over the first",
        target=1.5,
        measure=list_page_over_first("last"),
        noise=list_page_over_first("first again"),
        is_ceiling=True,
    ),
    Goal(
        text="mails a second of the worker, over a plain loop of posts",
        target=0.7,
        measure=lambda rows: ratios(rows, "per_second", "worker", "loop", suite="worker"),
        noise=_unknown,
    ),
    Goal(
        text="import of 100,000 users, over COPY of the same rows",
        target=0.25,
        measure=lambda rows: ratios(rows, "per_second", "import", "copy", suite="import"),
        noise=_unknown,
    ),
]
