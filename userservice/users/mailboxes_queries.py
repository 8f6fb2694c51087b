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
# The address may have changed since it was read; such a user has a new key already.
_SET_KEY = (
    update(users)
    .where(users.c.id == bindparam("user_id"), users.c.email == bindparam("known"), LIVE)
    .values(mailbox_key=bindparam("key"))
)


def list_addresses(
    connection: Connection, *, after: UUID | None, limit: int
) -> Sequence[AddressRow]:
    """Return at most `limit` live users in id order, beginning behind `after`."""
    statement = select(*_COLUMNS).where(LIVE).order_by(users.c.id).limit(limit)
    if after is not None:
        statement = statement.where(users.c.id > after)
    return [AddressRow(*row) for row in connection.execute(statement)]


def set_keys(connection: Connection, keys: Sequence[dict[str, Any]]) -> None:
    """Store keys: `user_id`, `known` address, `key`.

    Raises:
        IntegrityError: a key is another user's; what else was stored is for the caller to undo.
    """
    connection.execute(_SET_KEY, keys)


def find_owner(connection: Connection, key: str) -> UUID | None:
    """Return the live user that has the key."""
    statement = select(users.c.id).where(users.c.mailbox_key == key, LIVE)
    owner: UUID | None = connection.scalar(statement)
    return owner
