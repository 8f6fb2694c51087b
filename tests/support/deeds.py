"""Rows of the audit trail: read, and made up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import insert, select

from chassis.storage.audit import events
from chassis.storage.ids import first_id, uuid7

NOW = timedelta(0)


def deeds(database, *actions):
    """Return the rows of some actions, or of all, in the order of their ids."""
    statement = select(events).order_by(events.c.id)
    if actions:
        statement = statement.where(events.c.action.in_(actions))
    with database.connection() as connection:
        return connection.execute(statement).all()


def actions_of(database):
    """Return the actions of all rows, in the order of their ids."""
    return [each.action for each in deeds(database)]


def store(database, number=1, *, age=NOW, **values):
    """Store rows of some age, the first one the oldest; return their ids."""
    rows = [_row(number - each, age) | values for each in range(number)]
    with database.transaction() as connection:
        connection.execute(insert(events), rows)
    return [row["id"] for row in rows]


def _row(number, age):
    at = datetime.now(UTC) - age - timedelta(milliseconds=number)
    return {
        # The time of the row, and the other bits of a new id.
        "id": type(uuid7())(int=first_id(at).int | uuid7().int & ((1 << 80) - 1)),
        "at": at,
        "actor_kind": "user",
        "actor_id": str(uuid7()),
        "source": "http",
        "action": "user.changed",
        "target": str(uuid7()),
        "changed": ["name"],
        "outcome": "done",
        "request_id": "r",
        "trace_id": None,
    }
