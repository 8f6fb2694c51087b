"""Personal data in payloads: kept until the message is settled, and no longer.

Payloads hold ids; a handler reads the rest when it works. A value that the rows no longer have is
the exception: it travels in the payload's member PRIVATE.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import Connection, bindparam, text, update

from chassis.background.outbox import Message, Settlement, messages

PRIVATE = "private"

_REDACT = (
    update(messages)
    # A worker that has lost its claim settles nothing: the next one needs the values.
    .where(messages.c.id == bindparam("key"), messages.c.status != text("'queued'"))
    .values(payload=bindparam("redacted", type_=messages.c.payload.type))
)


def private_of(message: Message) -> Mapping[str, Any]:
    """Return the personal data that a message carries; empty once it was settled."""
    found: Mapping[str, Any] = message.payload.get(PRIVATE, {})
    return found


def redact(connection: Connection, settlements: Collection[Settlement]) -> None:
    """Remove the personal data of messages from those that are no longer queued."""
    rows = [
        {"key": each.id, "redacted": {k: v for k, v in each.payload.items() if k != PRIVATE}}
        for each in sorted(settlements, key=lambda each: each.id)  # in one order: no deadlock
        if each.payload is not None and PRIVATE in each.payload
    ]
    if rows:
        connection.execute(_REDACT, rows)
