"""SQL about all that is stored of a person; the caller owns the connection."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, delete, select

from userservice.users.queries import LIVE, STATUS, users


class VersionRow(NamedTuple):
    """A user of any status, as conditions on a request see it."""

    version: int
    updated_at: datetime


# Columns that nobody is shown: secrets, and others that follow from the address.
WITHHELD = frozenset({"password_hash", "stamp", "email_key", "mailbox_key", "verified_key"})


def find_version(connection: Connection, user_id: UUID) -> VersionRow | None:
    """Return the version of a user, deleted or not."""
    columns = (users.c[name] for name in VersionRow._fields)
    row = connection.execute(select(*columns).where(users.c.id == user_id)).first()
    return VersionRow(*row) if row is not None else None


def find_person(connection: Connection, user_id: UUID) -> Mapping[str, Any] | None:
    """Return the columns of a live user that can be shown, and what the others say."""
    columns = (each for each in users.c if each.name not in {"status", *WITHHELD})
    has_password = users.c.password_hash.is_not(None).label("has_password")
    statement = select(*columns, STATUS, has_password, users.c.verified_key)
    row = connection.execute(statement.where(users.c.id == user_id, LIVE)).mappings().first()
    return dict(row) if row is not None else None


def delete_row(connection: Connection, user_id: UUID) -> None:
    """Remove the row of a user."""
    connection.execute(delete(users).where(users.c.id == user_id))
