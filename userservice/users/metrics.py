"""Metrics about users; every label value is bounded."""

from __future__ import annotations

from itertools import product

from prometheus_client import Counter

from chassis.once import once
from chassis.telemetry.instruments import OTHER, bounded

SIGNUP_SOURCES = frozenset({"web", "mobile", "api", "admin", "import", "unknown"})
TIERS = frozenset({"free", "pro", "enterprise"})


def count_user_created(signup_source: str, tier: str, number: int = 1) -> None:
    """Count created users."""
    _users_created(bounded(signup_source, SIGNUP_SOURCES), bounded(tier, TIERS)).inc(number)


def prepare() -> None:
    """Show the counts from the start, by whatever users may be created."""
    for source, tier in product(sorted({*SIGNUP_SOURCES, OTHER}), sorted({*TIERS, OTHER})):
        _users_created(source, tier)


@once
def _users_created_family() -> Counter:
    return Counter("users_created_total", "Users created.", ["signup_source", "user_tier"])


@once
def _users_created(signup_source: str, tier: str) -> Counter:
    return _users_created_family().labels(signup_source, tier)
