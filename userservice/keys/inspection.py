"""The API keys that an operator should look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from chassis.storage.database import DatabaseManager
from userservice.keys import queries
from userservice.keys.queries import KeyRow


class Doubtful(NamedTuple):
    """Keys to look at, in the order in which they were made; revoked ones are none of them."""

    orphaned: Sequence[KeyRow]
    """Those that hold, though the user who made them is no superuser any more."""
    endless: Sequence[KeyRow]
    """Those that never expire."""
    expired: Sequence[KeyRow]


def inspect_keys(database: DatabaseManager) -> Doubtful:
    """Find the keys to look at; this reads the whole table."""
    with database.connection() as connection:
        rows = queries.list_keys(connection, status=None, after=None, limit=None)
        superusers = {str(each) for each in queries.list_superusers(connection)}
    by_id = {each.id.hex: each for each in rows}
    active = [each for each in rows if each.status == "active"]
    return Doubtful(
        orphaned=[each for each in active if _is_orphaned(each, by_id, superusers)],
        endless=[each for each in active if each.expires_at is None],
        expired=[each for each in rows if each.status == "expired"],
    )


def _is_orphaned(key: KeyRow, by_id: Mapping[str, KeyRow], superusers: set[str]) -> bool:
    """Tell whether the user at the beginning is no superuser: a key may have been made by a key."""
    maker = key.created_by
    while maker is not None and maker in by_id:
        maker = by_id[maker].created_by
    # An operator made it, or a service with the key of the environment, unless it was a user.
    return maker is not None and "-" in maker and maker not in superusers
