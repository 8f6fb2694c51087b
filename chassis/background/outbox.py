"""Messages, stored in the transaction that causes them, and delivered later, at least once.

A message is queued until it is sent, skipped (there was nothing to do) or abandoned (tried for
a day). A worker claims it for the time of a lease; if the worker dies, another claims it then.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import (
    JSON,
    Connection,
    Float,
    Index,
    Insert,
    String,
    Table,
    bindparam,
    delete,
    func,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.orm import Mapped, mapped_column

from chassis.storage.clock import NO_TIME, database_time, from_now
from chassis.storage.columns import Base, UtcDateTime
from chassis.storage.database import DatabaseManager
from chassis.storage.ids import first_id, uuid7
from chassis.storage.tables import Purge, Tables
from chassis.telemetry.propagation import outgoing_headers

PATIENCE = timedelta(days=1)
ERROR_LENGTH = 200


class MessageStatus(StrEnum):
    """The state of a message."""

    QUEUED = "queued"
    SENT = "sent"
    SKIPPED = "skipped"
    ABANDONED = "abandoned"


SETTLED = (MessageStatus.SENT, MessageStatus.SKIPPED)


class OutboxMessage(Base):
    """Work that has to follow from a change that was stored."""

    __tablename__ = "outbox_messages"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    topic: Mapped[str] = mapped_column(String(64))
    payload: Mapped[dict[str, Any]] = mapped_column(JSON)
    trace: Mapped[dict[str, str]] = mapped_column(JSON)
    status: Mapped[str] = mapped_column(String(16))
    attempts: Mapped[int]
    due_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    last_error: Mapped[str | None] = mapped_column(String(ERROR_LENGTH))

    __table_args__ = (
        # Without settled messages: claiming costs the same with a million old ones.
        Index(
            "ix_outbox_messages_due",
            "due_at",
            postgresql_where=text("status = 'queued'"),
            sqlite_where=text("status = 'queued'"),
        ),
    )


class Message(NamedTuple):
    """A message as its handler sees it; `id` is the same on every try.

    Its times are of the database's clock, to be compared with each other and no other.
    """

    id: UUID
    topic: str
    payload: dict[str, Any]
    trace: dict[str, str]
    attempts: int
    due_at: datetime
    expires_at: datetime
    claimed_at: datetime


class Settlement(NamedTuple):
    """The outcome of a claimed message.

    Its new due time is `due_in` from now by the database's clock, unless `due_at` is given.
    """

    id: UUID
    status: MessageStatus
    attempts: int
    due_at: datetime | None = None
    last_error: str | None = None
    is_tried: bool = True
    due_in: timedelta = NO_TIME


messages: Table = OutboxMessage.__table__  # type: ignore[assignment]  # a Table, declared wider
_COLUMNS = tuple(messages.c[name] for name in Message._fields if name in messages.c)
_QUEUED = messages.c.status == text("'queued'")  # as text, or the partial index is not used
PREFIX = "message_"
_GIVEN = {column.name: bindparam(PREFIX + column.name, type_=column.type) for column in messages.c}
# Times that are not given are the database's.
_TIMES = {"due_at": database_time(), "expires_at": database_time(PATIENCE)}
# As text: a parameter costs the sender and the receiver more.
_NEW = {"status": text("'queued'"), "attempts": text("0"), "last_error": text("NULL")}
INSERT: Insert = insert(messages).values(
    _GIVEN | {name: func.coalesce(_GIVEN[name], time) for name, time in _TIMES.items()} | _NEW
)


def new_message(topic: str, payload: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of INSERT for a message that is due now, in the current trace."""
    row = {
        "id": uuid7(),
        "topic": topic,
        "payload": dict(payload),
        "trace": outgoing_headers(),
        "due_at": None,
        "expires_at": None,
    }
    return {PREFIX + name: value for name, value in row.items()}


def claim(
    connection: Connection, *, limit: int, lease: timedelta, now: datetime | None = None
) -> Sequence[Message]:
    """Reserve messages that are due, oldest first, in one statement.

    Rows that another worker is claiming are skipped, so workers neither share a message nor
    wait for each other; no row stays locked.

    Args:
        connection: A connection on which each statement commits by itself.
        limit: Largest number of messages to reserve, at least 1.
        lease: How long the reservation holds.
        now: Counts instead of the database's clock; tests own the time with it.
    """
    due = (
        select(messages.c.id)
        .where(_QUEUED, messages.c.due_at <= database_time(now=now))
        .order_by(messages.c.due_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
        .cte("due")
    )
    statement = (
        update(messages)
        # By the key alone: with more conditions and outdated statistics, the planner would
        # read the whole queue for each of these rows.
        .where(messages.c.id.in_(select(due.c.id)))
        .values(attempts=messages.c.attempts + 1, due_at=database_time(lease, now=now))
        .returning(*_COLUMNS, database_time(now=now).label("claimed_at"))
    )
    claimed = [Message._make(row) for row in connection.execute(statement)]
    return sorted(claimed, key=lambda message: message.id)


def find_claimed(
    connection: Connection, message_id: UUID, *, attempts: int, now: datetime | None = None
) -> Message | None:
    """Return a message while the claim with this number of attempts holds, else None."""
    statement = select(*_COLUMNS, database_time(now=now).label("claimed_at")).where(
        messages.c.id == message_id,
        _QUEUED,
        messages.c.attempts == attempts,
        messages.c.due_at > database_time(now=now),
    )
    row = connection.execute(statement).first()
    return Message._make(row) if row is not None else None


def settle(connection: Connection, settlements: Collection[Settlement]) -> None:
    """Store the outcomes of messages.

    Only the worker that still holds the claim stores a failure. Any worker stores that a
    message was sent, because that is true even after the claim has ended.
    """
    statement = (
        update(messages)
        .where(messages.c.id == bindparam("key"), _QUEUED)
        .where(
            (messages.c.attempts == bindparam("claimed_attempts"))
            | (bindparam("new_status") == MessageStatus.SENT.value)
        )
        .values(
            status=bindparam("new_status"),
            attempts=bindparam("new_attempts"),
            due_at=func.coalesce(
                bindparam("new_due_at", type_=UtcDateTime()),
                from_now(bindparam("new_due_in", type_=Float())),
            ),
            last_error=bindparam("new_last_error"),
        )
    )
    # In one order, so that workers that settle the same messages do not deadlock.
    ordered = sorted(settlements, key=lambda each: each.id)
    connection.execute(statement, [_parameters(each) for each in ordered])


class Backlog(NamedTuple):
    """The number of waiting messages, the oldest's time by this host, and of abandoned ones."""

    queued: int
    abandoned: int
    oldest: datetime | None


def backlog(connection: Connection) -> Backlog:
    """Return the backlog; this reads only messages that are not settled, which are few."""
    statement = select(func.count(), func.min(messages.c.expires_at), database_time())
    queued, earliest, now = connection.execute(statement.where(_QUEUED)).one()
    abandoned = select(func.count()).where(messages.c.status == MessageStatus.ABANDONED)
    oldest = datetime.now(UTC) - (now - earliest + PATIENCE) if earliest is not None else None
    return Backlog(queued, connection.execute(abandoned).scalar_one(), oldest)


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
    """Queue abandoned messages, all or some, for another day; return their number."""
    statement = update(messages).where(messages.c.status == MessageStatus.ABANDONED)
    if ids is not None:
        statement = statement.where(messages.c.id.in_(ids))
    times = {"due_at": database_time(now=now), "expires_at": database_time(PATIENCE, now=now)}
    anew = statement.values(status=MessageStatus.QUEUED, attempts=0, last_error=None, **times)
    return connection.execute(anew).rowcount


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


def _parameters(settlement: Settlement) -> dict[str, Any]:
    # A message that was not tried is handed back without the attempt that the claim counted.
    attempts = settlement.attempts if settlement.is_tried else settlement.attempts - 1
    return {
        "key": settlement.id,
        "claimed_attempts": settlement.attempts,
        "new_status": settlement.status.value,
        "new_attempts": attempts,
        "new_due_at": settlement.due_at,
        "new_due_in": settlement.due_in.total_seconds(),
        "new_last_error": settlement.last_error,
    }
