"""Messages, stored in the transaction that causes them, and delivered later, at least once.

A message is queued until it is sent, skipped (there was nothing to do) or abandoned (tried for
a day). A worker claims it for the time of a lease; if the worker dies, another claims it then.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
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
    Integer,
    String,
    Table,
    UpdateBase,
    bindparam,
    func,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.orm import Mapped, mapped_column

from chassis.once import once
from chassis.storage.clock import NO_TIME, database_time, from_now
from chassis.storage.columns import Base, UtcDateTime
from chassis.storage.ids import uuid7
from chassis.telemetry.propagation import outgoing_headers

PATIENCE = timedelta(days=1)
ERROR_LENGTH = 200


class MessageStatus(StrEnum):
    """The state of a message."""

    QUEUED = "queued"
    SENT = "sent"
    SKIPPED = "skipped"
    ABANDONED = "abandoned"


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

    Attributes:
        known: A value that was read for many messages at once; see `read_ahead`.
        known_at: Monotonic time before the reading.
    """

    id: UUID
    topic: str
    payload: dict[str, Any]
    trace: dict[str, str]
    attempts: int
    due_at: datetime
    expires_at: datetime
    claimed_at: datetime
    known: Any = None
    known_at: float = 0.0


class Settlement(NamedTuple):
    """The outcome of a claimed message.

    Its new due time is `due_in` from now by the database's clock, unless `due_at` is given.
    `payload` is that of the message, whose personal data go when it is settled; see `redaction`.
    """

    id: UUID
    status: MessageStatus
    attempts: int
    due_at: datetime | None = None
    last_error: str | None = None
    is_tried: bool = True
    due_in: timedelta = NO_TIME
    payload: Mapping[str, Any] | None = None


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
    statement = _claiming(lease) if now is None else _claim_statement(lease, now)
    rows = connection.execute(statement, {"claim_limit": limit}).all()
    return sorted(map(_message, rows), key=lambda message: message.id)


def _message(row: Iterable[Any]) -> Message:
    return Message(*row)  # without what is only known later


def _claim_statement(lease: timedelta, now: datetime | None = None) -> UpdateBase:
    due = (
        select(messages.c.id)
        .where(_QUEUED, messages.c.due_at <= database_time(now=now))
        .order_by(messages.c.due_at)
        .limit(bindparam("claim_limit", type_=Integer()))
        .with_for_update(skip_locked=True)
        .cte("due")
    )
    return (
        update(messages)
        # By the key alone: with more conditions and outdated statistics, the planner would
        # read the whole queue for each of these rows.
        .where(messages.c.id.in_(select(due.c.id)))
        .values(attempts=messages.c.attempts + 1, due_at=database_time(lease, now=now))
        .returning(*_COLUMNS, database_time(now=now).label("claimed_at"))
    )


# A process has one lease; making the statement costs as much as executing it.
_claiming = once(_claim_statement)


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
    return _message(row) if row is not None else None


_SETTLE = (
    update(messages)
    .where(messages.c.id == bindparam("key"), _QUEUED)
    .where(messages.c.attempts == bindparam("claimed_attempts"))
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
# Found by the key alone, as in a claim, and locked in one order, as those of `_SETTLE`.
_locked = (
    select(messages.c.id, messages.c.status)
    .where(messages.c.id.in_(bindparam("sent", expanding=True)))
    .order_by(messages.c.id)
    .with_for_update()
    .cte("locked")
)
_SETTLE_SENT = (
    update(messages)
    .where(messages.c.id.in_(select(_locked.c.id).where(_locked.c.status == text("'queued'"))))
    .values(status=text("'sent'"), due_at=database_time(), last_error=text("NULL"))
)


def settle(connection: Connection, settlements: Collection[Settlement]) -> None:
    """Store the outcomes of messages.

    Only the worker that still holds the claim stores a failure. Any worker stores that a
    message was sent, because that is true even after the claim has ended.
    """
    sent = [each.id for each in settlements if each.status is MessageStatus.SENT]
    if sent:
        connection.execute(_SETTLE_SENT, {"sent": sent})
    # In one order, so that workers that settle the same messages do not deadlock.
    others = [each for each in settlements if each.status is not MessageStatus.SENT]
    if others:
        ordered = sorted(others, key=lambda each: each.id)
        connection.execute(_SETTLE, [_parameters(each) for each in ordered])


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
