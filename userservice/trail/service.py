"""Reading the audit trail. Nothing changes a row, and only a cleanup removes one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from chassis.storage.database import DatabaseManager
from userservice.trail import queries
from userservice.trail.queries import Wanted
from userservice.trail.schemas import NAMELESS, EventFilter, EventRead


def list_events(
    database: DatabaseManager, wanted: EventFilter, *, before: UUID | None = None, limit: int
) -> Sequence[Row[Any]]:
    """Return one page of the trail, newest first; fewer than `limit` means it is the last.

    Args:
        database: The database.
        wanted: The deeds to read.
        before: Id of the last deed of the page before.
        limit: Largest number of deeds to return.
    """
    with database.connection() as connection:
        return queries.list_events(connection, _wanted(wanted), before=before, limit=limit)


def export_events(database: DatabaseManager, wanted: EventFilter) -> Iterator[bytes]:
    """Yield the deeds of one moment as lines of JSON, oldest first, in pieces of bounded size.

    Raises:
        Unavailable: as for `DatabaseManager.snapshot`.
    """
    with database.snapshot() as connection:
        for page in queries.stream_events(connection, _wanted(wanted)):
            read = (EventRead.model_validate(row, from_attributes=True) for row in page)
            yield b"".join(each.model_dump_json().encode() + b"\n" for each in read)


def _wanted(given: EventFilter) -> Wanted:
    is_nameless = given.actor in NAMELESS
    return Wanted(
        actor_id=None if is_nameless else given.actor,
        actor_kind=given.actor if is_nameless else None,
        target=given.target,
        action=given.action,
        after=given.after,
    )
