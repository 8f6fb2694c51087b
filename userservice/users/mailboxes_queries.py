"""SQL about the keys of mailboxes; the caller owns the connection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, bindparam, select, update

from userservice.users.queries import LIVE, users


class AddressRow(NamedTuple):
    """A live user's address, and its stored key."""

    id: UUID
    email: str
    mailbox_key: str | None


_COLUMNS = tuple(users.c[name] for name in AddressRow._fields)
_SET_KEY = (
    update(users).where(users.c.id == bindparam("user_id")).values(mailbox_key=bindparam("key"))
)


def list_addresses(
    connection: Connection, *, after: UUID | None, limit: int
) -> Sequence[AddressRow]:
    """Return at most `limit` live users in id order, beginning behind `after`."""
    statement = select(*_COLUMNS).where(LIVE).order_by(users.c.id).limit(limit)
    if after is not None:
        statement = statement.where(users.c.id > after)
    return [AddressRow(*row) for row in connection.execute(statement)]


def set_keys(connection: Connection, keys: Sequence[dict[str, Any]]) -> int:
    """Store keys: `user_id`, `known` address, `key`; return how many were not stored before.

    An address may have changed since it was read; such a user has a new key already.

    Raises:
        IntegrityError: a key is another user's; what else was stored is for the caller to undo.
    """
    named = users.c.id.in_([each["user_id"] for each in keys])
    found = select(*_COLUMNS).where(named, LIVE).order_by(users.c.id)
    rows = [AddressRow(*row) for row in connection.execute(found.with_for_update(key_share=True))]
    there = {row.id: row for row in rows}
    missing = [each for each in keys if _is_missing(each, there.get(each["user_id"]))]
    if missing:
        connection.execute(_SET_KEY, missing)
    return len(missing)


def _is_missing(given: dict[str, Any], row: AddressRow | None) -> bool:
    return row is not None and row.email == given["known"] and row.mailbox_key != given["key"]


def find_owner(connection: Connection, key: str) -> UUID | None:
    """Return the live user that has the key."""
    statement = select(users.c.id).where(users.c.mailbox_key == key, LIVE)
    owner: UUID | None = connection.scalar(statement)
    return owner
