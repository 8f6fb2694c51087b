"""Metrics about users; every label value is bounded."""

from __future__ import annotations

from prometheus_client import Counter

from chassis.once import once
from chassis.telemetry.instruments import bounded

SIGNUP_SOURCES = frozenset({"web", "mobile", "api", "admin", "import", "unknown"})
TIERS = frozenset({"free", "pro", "enterprise"})


def count_user_created(signup_source: str, tier: str, number: int = 1) -> None:
    """Count created users."""
    _users_created(bounded(signup_source, SIGNUP_SOURCES), bounded(tier, TIERS)).inc(number)


@once
def _users_created_family() -> Counter:
    return Counter("users_created_total", "Users created.", ["signup_source", "user_tier"])


@once
def _users_created(signup_source: str, tier: str) -> Counter:
    return _users_created_family().labels(signup_source, tier)
