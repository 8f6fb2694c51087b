"""Metrics about passwords; every label value is bounded."""

from __future__ import annotations

from enum import StrEnum

from prometheus_client import Counter

from chassis.once import once


class Way(StrEnum):
    """The ways in which a user gets a new password."""

    CHANGE = "change"  # by the present one
    RESET = "reset"
    INVITATION = "invitation"
    PRINTED = "printed"  # by a link that an operator handed over
    OPERATOR = "operator"


def count_set(way: Way) -> None:
    """Count a password that was stored."""
    _set(way).inc()


def prepare() -> None:
    """Show the counts from the start."""
    for way in Way:
        _set(way)


@once
def _set_family() -> Counter:
    return Counter("passwords_set_total", "New passwords of users.", ["way"])


@once
def _set(way: Way) -> Counter:
    return _set_family().labels(way.value)
