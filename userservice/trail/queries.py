"""SQL that reads the audit trail; the caller owns the connection."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Row, select

from chassis.storage.audit import events
from chassis.storage.ids import first_id


class Wanted(NamedTuple):
    """The deeds to read; None: of all, to all, whichever, since ever."""

    actor_id: str | None
    actor_kind: str | None
    """Only actors of this kind without an id."""
    target: str | None
    action: str | None
    after: datetime | None


def list_events(
    connection: Connection, wanted: Wanted, *, before: UUID | None, limit: int
) -> Sequence[Row[Any]]:
    """Return deeds, newest first, beginning behind the one with the id `before`."""
    statement = select(events).where(*_conditions(wanted))
    if before is not None:
        statement = statement.where(events.c.id < before)
    return connection.execute(statement.order_by(events.c.id.desc()).limit(limit)).all()


def stream_events(connection: Connection, wanted: Wanted) -> Iterator[Sequence[Row[Any]]]:
    """Yield deeds, oldest first, page by page."""
    statement = select(events).where(*_conditions(wanted)).order_by(events.c.id)
    yield from connection.execute(statement).partitions()


def _conditions(wanted: Wanted) -> Iterator[ColumnElement[bool]]:
    if wanted.actor_kind is not None:
        yield events.c.actor_id.is_(None)
        yield events.c.actor_kind == wanted.actor_kind
    for name in ("actor_id", "target", "action"):
        if (value := getattr(wanted, name)) is not None:
            yield events.c[name] == value
    if wanted.after is not None:
        # By the time in the id, so that the index that finds the others bounds this as well.
        yield events.c.id >= first_id(wanted.after)
