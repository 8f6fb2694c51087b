"""Findings of `admin check --deploy` about API keys."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from chassis.cli.checks import Finding
from chassis.errors import Unavailable
from chassis.storage.database import DatabaseManager
from userservice.keys import inspection
from userservice.keys.queries import KeyRow

MOST_NAMED = 10


def check_keys(database: DatabaseManager) -> Iterator[Finding]:
    """Check who made the keys that hold, and when keys end; other findings tell of an outage."""
    try:
        found = inspection.inspect_keys(database)
    except Unavailable:
        return
    yield _finding(
        "orphaned_keys", "made by one who is no superuser any more; replace them: ", found.orphaned
    )
    yield _finding("endless_keys", "they never expire: ", found.endless, is_note=True)
    yield _finding(
        "expired_keys", "revoke them once nobody sends them: ", found.expired, is_note=True
    )


def _finding(check: str, advice: str, keys: Sequence[KeyRow], *, is_note: bool = False) -> Finding:
    names = ", ".join(f"{each.id.hex} ({each.name})" for each in keys[:MOST_NAMED])
    more = f" and {len(keys) - MOST_NAMED} more" if len(keys) > MOST_NAMED else ""
    return Finding(check, passed=not keys, advice=f"{advice}{names}{more}", is_note=is_note)
