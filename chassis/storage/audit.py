"""The audit trail: who did what to whom, stored in the transaction of the deed, or not at all.

A row names members, never their values, and ids, never names or addresses of persons.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from opentelemetry import trace
from sqlalchemy import (
    JSON,
    Connection,
    Index,
    Insert,
    String,
    Table,
    bindparam,
    exists,
    insert,
    select,
)
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.sql.dml import ReturningDelete, ReturningUpdate

from chassis.actor import Actor, actor
from chassis.storage.clock import database_time
from chassis.storage.columns import Base
from chassis.storage.database import DatabaseManager
from chassis.storage.ids import uuid7
from chassis.telemetry.log_fields import log_fields

ID_LENGTH = 36
REQUEST_ID_LENGTH = 128


class Outcome(StrEnum):
    """The outcomes of a deed."""

    DONE = "done"
    BEGUN = "begun"  # of what cannot be undone once it has left, as an export


class AuditEvent(Base):
    """A deed, and the one who did it."""

    __tablename__ = "audit_events"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    actor_kind: Mapped[str] = mapped_column(String(16))
    actor_id: Mapped[str | None] = mapped_column(String(ID_LENGTH))
    source: Mapped[str] = mapped_column(String(16))
    action: Mapped[str] = mapped_column(String(64))
    target: Mapped[str | None] = mapped_column(String(ID_LENGTH))
    changed: Mapped[list[str]] = mapped_column(JSON)
    outcome: Mapped[str] = mapped_column(String(16))
    request_id: Mapped[str | None] = mapped_column(String(REQUEST_ID_LENGTH))
    trace_id: Mapped[str | None] = mapped_column(String(32))

    __table_args__ = (
        Index("ix_audit_events_target", "target", "id"),
        Index("ix_audit_events_actor", "actor_id", "id"),
    )


events: Table = AuditEvent.__table__  # type: ignore[assignment]  # a Table, declared wider
PREFIX = "event_"
_GIVEN = {
    column.name: bindparam(PREFIX + column.name, type_=column.type)
    for column in events.c
    if column.name != "at"
}
_VALUES = _GIVEN | {"at": database_time()}
INSERT: Insert = insert(events).values(_VALUES)


def new_event(
    action: str,
    target: UUID | str | None,
    *,
    changed: Collection[str] = (),
    outcome: Outcome = Outcome.DONE,
    by: Actor | None = None,
) -> dict[str, Any]:
    """Return the parameters of INSERT for a deed.

    Args:
        action: A name such as session.ended.
        target: The id of the thing, if it was one.
        changed: The names of its members that are not as before.
        outcome: The outcome.
        by: The actor; None: the one for whom this thread works.
    """
    by = by or actor.get()
    span = trace.get_current_span().get_span_context()
    row = {
        "id": uuid7(),
        "actor_kind": by.kind.value,
        "actor_id": by.id,
        "source": by.source.value,
        "action": action,
        "target": str(target) if target is not None else None,
        "changed": sorted(changed),
        "outcome": outcome.value,
        "request_id": log_fields.get().get("request_id"),
        "trace_id": trace.format_trace_id(span.trace_id) if span.is_valid else None,
    }
    return {PREFIX + name: value for name, value in row.items()}


def record(
    connection: Connection,
    action: str,
    target: UUID | str | None,
    *,
    changed: Collection[str] = (),
    by: Actor | None = None,
) -> None:
    """Store a deed in the transaction of its change; see `new_event`."""
    connection.execute(INSERT, new_event(action, target, changed=changed, by=by))


def run_recorded(
    connection: Connection,
    change: ReturningUpdate[Any] | ReturningDelete[Any],
    event: Mapping[str, Any] | None,
) -> Sequence[Any] | None:
    """Run a change, and return the first row that it returns; if there is one, store its deed.

    Args:
        connection: On PostgreSQL both are one statement; elsewhere they need a transaction.
        change: It returns at least a column of the rows that it changes.
        event: The deed, from `new_event`; None: none is stored.
    """
    if event is None:
        return connection.execute(change).first()
    if connection.dialect.name != "postgresql":
        row = connection.execute(change).first()
        if row is not None:
            connection.execute(INSERT, event)
        return row
    done = change.cte("done")
    deed = select(*_VALUES.values()).where(exists().select_from(done))
    trail = insert(events).from_select(list(_VALUES), deed, include_defaults=False)
    return connection.execute(select(done).add_cte(trail.cte("trail")), event).first()


def begin(database: DatabaseManager, action: str, target: UUID | str | None = None) -> None:
    """Store a deed that cannot be undone once it has left, such as an export, before it leaves.

    Raises:
        Unavailable: the row was not stored, and the deed must not be done.
    """
    with database.connection() as connection:
        connection.execute(INSERT, new_event(action, target, outcome=Outcome.BEGUN))
