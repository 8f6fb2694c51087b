"""Stored messages, as operators and the cleanup see them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Text, cast, delete, func, or_, select, update

from chassis.background.outbox import PATIENCE, MessageStatus, messages
from chassis.storage import audit
from chassis.storage.clock import database_time
from chassis.storage.database import DatabaseManager
from chassis.storage.ids import first_id
from chassis.storage.tables import Purge, Tables

REQUEUED = "messages.requeued"
SETTLED = (MessageStatus.SENT, MessageStatus.SKIPPED)


def list_messages(
    connection: Connection, status: MessageStatus, *, limit: int
) -> Sequence[dict[str, Any]]:
    """Return messages of one status, oldest first, without their payloads."""
    columns = (messages.c[name] for name in ("id", "topic", "attempts", "due_at", "last_error"))
    statement = select(*columns).where(messages.c.status == status)
    ordered = statement.order_by(messages.c.id).limit(limit)
    return [dict(row) for row in connection.execute(ordered).mappings()]


def find_message(connection: Connection, message_id: UUID) -> dict[str, Any] | None:
    """Return all that is stored of a message."""
    row = connection.execute(select(messages).where(messages.c.id == message_id)).mappings().first()
    return dict(row) if row is not None else None


def requeue(
    connection: Connection, ids: Collection[UUID] | None, *, now: datetime | None = None
) -> int:
    """Queue abandoned messages, all or some, for another day; return their number.

    The audit trail has a row about it, in the caller's transaction.
    """
    statement = update(messages).where(messages.c.status == MessageStatus.ABANDONED)
    if ids is not None:
        statement = statement.where(messages.c.id.in_(ids))
    times = {"due_at": database_time(now=now), "expires_at": database_time(PATIENCE, now=now)}
    anew = statement.values(status=MessageStatus.QUEUED, attempts=0, last_error=None, **times)
    number = connection.execute(anew).rowcount
    if number:
        target = next(iter(ids)) if ids is not None and len(ids) == 1 else None
        audit.record(connection, REQUEUED, target)
    return number


def list_about(connection: Connection, subject_id: UUID) -> Sequence[dict[str, Any]]:
    """Return all that is stored of messages whose payload names a row, oldest first."""
    statement = select(messages).where(_names(subject_id)).order_by(messages.c.id)
    return [dict(row) for row in connection.execute(statement).mappings()]


def forget(connection: Connection, subject_id: UUID) -> None:
    """Remove the messages whose payload names a row, delivered or not; reads the whole table."""
    # Locked in one order, as where they are settled.
    found = select(messages.c.id).where(_names(subject_id)).order_by(messages.c.id)
    locked = found.with_for_update().cte("locked")
    connection.execute(delete(messages).where(messages.c.id.in_(select(locked.c.id))))


def _names(subject_id: UUID) -> ColumnElement[bool]:
    # As text, under whichever name: comparing a member would parse each payload. An id that SQLite
    # itself wrote into a payload is without hyphens there, as it is in the column.
    payload = cast(messages.c.payload, Text)
    return or_(payload.contains(str(subject_id)), payload.contains(subject_id.hex))


def count_settled(database: DatabaseManager, *, before: datetime) -> int:
    """Count the delivered messages that are older than a point in time."""
    statement = select(func.count()).where(*_settled_before(before))
    with database.connection() as connection:
        return connection.execute(statement).scalar_one()


def purge_settled(database: DatabaseManager, *, before: datetime) -> Iterator[int]:
    """Remove delivered messages older than a point in time; yield the size of each batch."""

    def purge_batch(connection: Connection, limit: int) -> int:
        batch = select(messages.c.id).where(*_settled_before(before)).limit(limit)
        return connection.execute(delete(messages).where(messages.c.id.in_(batch))).rowcount

    return database.purge(purge_batch)


TABLES: Tables = {"outbox_messages": Purge(count_settled, purge_settled)}


def _settled_before(before: datetime) -> tuple[Any, ...]:
    # Ids are in order of time, so the primary key serves as the index.
    return messages.c.id < first_id(before), messages.c.status.in_(SETTLED)
