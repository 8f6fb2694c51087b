"""Keys of mailboxes for users that the release before stored, which knew no such keys."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy.exc import IntegrityError

from chassis.storage import audit
from chassis.storage.database import DatabaseManager
from userservice.actions import Action
from userservice.users import mailboxes_queries as queries
from userservice.users.addresses import mailbox_key
from userservice.users.mailboxes_queries import AddressRow

BATCH = 1000


class SharedMailbox(NamedTuple):
    """A user whose address names a mailbox that another user has."""

    user_id: UUID
    owner_id: UUID | None


class Given(NamedTuple):
    """A batch of users: how many got a key, and those who cannot have theirs."""

    keys: int
    shared: Sequence[SharedMailbox]


def give_keys(database: DatabaseManager, *, limit: int = BATCH) -> Iterator[Given]:
    """Give live users the keys of their mailboxes, in id order; yield the results of each batch.

    Of users who share a mailbox one has the key. The others keep their address, and log in by
    the spelling they registered with.

    Args:
        database: The database that stores the users.
        limit: Largest size of a batch.
    """
    after = None
    while True:
        with database.connection() as connection:
            rows = queries.list_addresses(connection, after=after, limit=limit)
        if not rows:
            return
        after = rows[-1].id
        yield _give(database, [key for row in rows for key in _missing(row)])


def _missing(row: AddressRow) -> Iterator[dict[str, Any]]:
    key = mailbox_key(row.email)
    if row.mailbox_key != key:
        yield {"user_id": row.id, "known": row.email, "key": key}


def _give(database: DatabaseManager, keys: Sequence[dict[str, Any]]) -> Given:
    if not keys:
        return Given(0, [])
    try:
        with database.transaction() as connection:
            given = queries.set_keys(connection, keys)
            if given:
                audit.record(connection, Action.USERS_KEYED, None)
    except IntegrityError:
        if len(keys) > 1:
            parts = [_give(database, [key]) for key in keys]
            return Given(
                sum(each.keys for each in parts), [two for each in parts for two in each.shared]
            )
        with database.connection() as connection:
            owner = queries.find_owner(connection, keys[0]["key"])
        return Given(0, [SharedMailbox(keys[0]["user_id"], owner)])
    return Given(given, [])
