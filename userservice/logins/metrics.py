"""Metrics about log-ins; every label value is bounded."""

from __future__ import annotations

from enum import StrEnum

from prometheus_client import Counter

from chassis.once import once


class Reason(StrEnum):
    """The reasons why log-ins end before they expire."""

    LOG_OUT = "log_out"
    REQUEST = "request"  # somebody looked at the list of them
    REUSE = "reuse"  # a spent token came back
    LIMIT = "limit"  # the user has too many
    SUSPENSION = "suspension"
    DELETION = "deletion"  # or the erasure
    PASSWORD = "password"  # noqa: S105 - the user got a new one


def count_ended(reason: Reason, number: int = 1) -> None:
    """Count log-ins that ended."""
    _ended(reason).inc(number)


def count_repeated() -> None:
    """Count a refresh whose answer was given before."""
    _repeated().inc()


def prepare() -> None:
    """Show the counts from the start."""
    for reason in Reason:
        _ended(reason)
    _repeated()


@once
def _ended_family() -> Counter:
    return Counter("sessions_ended_total", "Log-ins ended before they expired.", ["reason"])


@once
def _ended(reason: Reason) -> Counter:
    return _ended_family().labels(reason.value)


@once
def _repeated() -> Counter:
    return Counter("refreshes_repeated_total", "Refreshes whose answer was given before.")
