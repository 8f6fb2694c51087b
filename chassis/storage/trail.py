"""The audit trail as it is kept: read for a person, counted, purged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, and_, delete, func, or_, select

from chassis.storage.audit import events, record
from chassis.storage.database import DatabaseManager
from chassis.storage.ids import first_id
from chassis.storage.tables import Purge, Tables

PURGED = "audit.purged"
# Rows to remove in one transaction, with one row about it.
PURGED_ROWS = 5000


def list_about(connection: Connection, subject_id: UUID, *, limit: int) -> Sequence[dict[str, Any]]:
    """Return the newest deeds to somebody, or of somebody, the newest first."""
    is_part = or_(events.c.target == str(subject_id), events.c.actor_id == str(subject_id))
    statement = select(events).where(is_part).order_by(events.c.id.desc()).limit(limit)
    return [dict(row) for row in connection.execute(statement).mappings()]


def count_old(database: DatabaseManager, *, before: datetime) -> int:
    """Count the deeds that are older than a point in time."""
    with database.connection() as connection:
        return connection.execute(select(func.count()).where(_is_old(before))).scalar_one()


def purge_old(database: DatabaseManager, *, before: datetime) -> Iterator[int]:
    """Remove deeds older than a point in time; yield the size of each batch.

    A purge is a deed itself: each batch leaves a row about it, in its transaction.
    """

    def purge_batch(connection: Connection, limit: int) -> int:
        batch = select(events.c.id).where(_is_old(before)).order_by(events.c.id).limit(limit)
        purged = connection.execute(delete(events).where(events.c.id.in_(batch))).rowcount
        if purged:
            record(connection, PURGED, None)
        return purged

    return database.purge(purge_batch, limit=PURGED_ROWS)


TABLES: Tables = {"audit_events": Purge(count_old, purge_old, days_setting="audit_days")}


def _is_old(before: datetime) -> ColumnElement[bool]:
    # Ids are in order of time, so the primary key serves as the index. But hosts tell that time,
    # and one whose clock is late must not cost the trail its rows.
    return and_(events.c.id < first_id(before), events.c.at < before)
