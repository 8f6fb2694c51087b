"""Metrics of the mechanisms; each resource has its own file of metrics. All labels are bounded.

Instruments are made on first use, so that `count_together` can be called before. A process shows
those that it will use from its start on (`prepare_…`), so that an absent one means something.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable
from itertools import product
from pathlib import Path

from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics, values

from chassis.once import once
from chassis.telemetry.derived import SCHEME

# The time at which a series began would be another series, and nobody needs it.
disable_created_metrics()  # type: ignore[no-untyped-call]

# The semantic conventions' buckets, in seconds.
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)

METHODS = frozenset(
    {"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"}
)

OTHER = "other"

_FILE = re.compile(r"(counter|gauge_[a-z]+|histogram)_\d+\.db")


def count_together(directory: str, identify: Callable[[], int] = os.getpid) -> None:
    """Count in memory-mapped files that all processes forked from here share.

    A process's counts outlast its death, however it dies. Call this before the first count;
    without this call a process counts alone, in memory.

    Args:
        directory: Holds the files of all.
        identify: Returns the number in the names of the files of the process that calls it.
    """
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = directory
    values.ValueClass = values.MultiProcessValue(identify)  # type: ignore[no-untyped-call]


def count_alone() -> None:
    """Count in memory, even if the environment names a directory; call this before the first count.

    The library looks at the environment when it is imported.
    """
    os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
    values.ValueClass = values.MutexValue


def files_in(directory: str) -> list[Path]:
    """Return the files in a directory that hold counts."""
    return [path for path in Path(directory).iterdir() if _FILE.fullmatch(path.name)]


def prepare_requests() -> None:
    """Show the metrics of requests from the start, as far as their labels are known."""
    for method in sorted(METHODS):
        active_requests(method)
    _requests()


@once
def active_requests(method: str) -> Gauge:
    """Return the gauge of requests being worked on."""
    return _active().labels(method if method in METHODS else "_OTHER", SCHEME)


@once
def request_duration(method: str, status_code: int, endpoint: str) -> Histogram:
    """Return the histogram of one kind of request; the number of routes bounds the kinds."""
    name = method if method in METHODS else "_OTHER"
    return _requests().labels(name, str(status_code), endpoint)


def prepare_rate_limits(names: Iterable[str]) -> None:
    """Show the decisions of rate limits from the start."""
    for name in names:
        for decision in ("allowed", "refused"):
            _rate_limited(name, decision)
    _rate_limit_errors()


def count_rate_limit(name: str, *, is_allowed: bool) -> None:
    """Count a decision of a rate limit."""
    _rate_limited(name, "allowed" if is_allowed else "refused").inc()


def count_rate_limit_error() -> None:
    """Count a rate limit that had to be decided without Redis."""
    _rate_limit_errors().inc()


def count_dropped_line() -> None:
    """Count a log line for which its reader made no room."""
    _dropped_lines().inc()


def set_pool(*, in_use: int, idle: int, limit: int) -> None:
    """Set how many database connections this process has, and how many it may have."""
    _pool_limit().set(limit)
    _pool().labels("in_use").set(in_use)
    _pool().labels("idle").set(idle)


def set_breaker(name: str, state: int) -> None:
    """Set a circuit breaker's state: 0 closed, 1 half open, 2 open."""
    _breaker().labels(name).set(state)


def prepare_messages(topics: Iterable[str], results: Iterable[str]) -> None:
    """Show attempts to deliver, and the backlog, from the start."""
    for topic, result in product(topics, results):
        _messages().labels(topic, result)
    set_backlog(0, 0, 0, measured_at=0)


def observe_message(topic: str, result: str, seconds: float) -> None:
    """Count an attempt to deliver a message, and measure how long it took."""
    _messages().labels(topic, result).observe(seconds)


def set_backlog(queued: int, abandoned: int, oldest_seconds: float, *, measured_at: float) -> None:
    """Set how many messages wait in the outbox, how many are abandoned, and the oldest's age.

    Args:
        measured_at: When that was so, as Unix time; 0: nobody has looked yet.
    """
    _outbox().labels("queued").set(queued)
    _outbox().labels("abandoned").set(abandoned)
    _outbox_age().set(oldest_seconds)
    _outbox_measured().set(measured_at)


def prepare_pool(pool: str) -> None:
    """Show the tasks of a pool from the start."""
    set_pool_depth(pool, 0)
    _task_wait().labels(pool)
    for result in ("success", "error"):
        _task_duration().labels(pool, result)


def prepare_process(version: str, build_id: str, environment: str) -> None:
    """Say what runs; show what any process counts from the start."""
    _build().labels(version, build_id, environment).set(1)
    _dropped_lines()


def set_pool_depth(pool: str, depth: int) -> None:
    """Set how many tasks wait for a pool."""
    _pool_depth().labels(pool).set(depth)


def observe_task_wait(pool: str, seconds: float) -> None:
    """Measure how long a task waited."""
    _task_wait().labels(pool).observe(seconds)


def observe_task(pool: str, result: str, seconds: float) -> None:
    """Measure how long a task took."""
    _task_duration().labels(pool, result).observe(seconds)


def bounded(value: str, known: Collection[str]) -> str:
    """Return a label value out of a known set: callers must not be able to add series."""
    return value if value in known else OTHER


@once
def _active() -> Gauge:
    return Gauge(
        "http_server_active_requests",
        "HTTP requests being worked on, by their method.",
        ["http_request_method", "url_scheme"],
        multiprocess_mode="livesum",
    )


@once
def _requests() -> Histogram:
    labels = ["method", "status_code", "endpoint"]
    return Histogram(
        "http_request_duration_seconds", "Duration of HTTP requests.", labels, buckets=BUCKETS
    )


@once
def _rate_limit_family() -> Counter:
    labels = ["limit", "decision"]
    return Counter("rate_limit_decisions_total", "What rate limits decided.", labels)


@once
def _rate_limited(name: str, decision: str) -> Counter:
    return _rate_limit_family().labels(name, decision)


@once
def _rate_limit_errors() -> Counter:
    return Counter("rate_limit_errors_total", "Rate limits decided without Redis, which failed.")


@once
def _dropped_lines() -> Counter:
    return Counter("log_lines_dropped_total", "Log lines that found no reader.")


@once
def _pool() -> Gauge:
    return Gauge(
        "database_pool_connections",
        "Database connections of this pod.",
        ["state"],
        multiprocess_mode="livesum",
    )


@once
def _breaker() -> Gauge:
    return Gauge(
        "circuit_breaker_state",
        "0 closed, 1 half open, 2 open; the worst of this pod's processes.",
        ["name"],
        multiprocess_mode="livemax",
    )


@once
def _messages() -> Histogram:
    labels = ["topic", "result"]
    return Histogram(
        "outbox_delivery_duration_seconds", "Attempts to deliver.", labels, buckets=BUCKETS
    )


@once
def _outbox() -> Gauge:
    return Gauge(
        "outbox_messages", "Messages by status.", ["status"], multiprocess_mode="livemostrecent"
    )


@once
def _outbox_age() -> Gauge:
    meaning = "Age of the oldest message that waits."
    return Gauge("outbox_oldest_message_age_seconds", meaning, multiprocess_mode="livemostrecent")


@once
def _outbox_measured() -> Gauge:
    meaning = "Time of the last look at the outbox; 0: never."
    return Gauge("outbox_measured_timestamp_seconds", meaning, multiprocess_mode="livemostrecent")


@once
def _build() -> Gauge:
    labels = ["version", "build_id", "environment"]
    return Gauge("service_build_info", "Always 1.", labels, multiprocess_mode="livemostrecent")


@once
def _pool_depth() -> Gauge:
    return Gauge(
        "worker_pool_queue_depth", "Tasks that wait.", ["pool"], multiprocess_mode="livesum"
    )


@once
def _task_wait() -> Histogram:
    return Histogram(
        "worker_pool_wait_seconds", "How long tasks waited.", ["pool"], buckets=BUCKETS
    )


@once
def _task_duration() -> Histogram:
    labels = ["pool", "result"]
    return Histogram(
        "worker_pool_task_duration_seconds", "How long tasks took.", labels, buckets=BUCKETS
    )


@once
def _pool_limit() -> Gauge:
    return Gauge(
        "database_pool_limit",
        "Database connections that this pod may open.",
        multiprocess_mode="livesum",
    )
