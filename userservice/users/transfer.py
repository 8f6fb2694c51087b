"""Rules and transactions for the import and export of many users."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection

from chassis.storage.clock import read_time
from chassis.storage.database import DatabaseManager
from chassis.storage.ids import uuid7_batch
from userservice.users import transfer_queries as queries
from userservice.users.addresses import keys_of
from userservice.users.models import Status
from userservice.users.schemas import UserCreate
from userservice.users.transfer_queries import NewUsers

# The columns of an export, in this order.
EXPORTED = ("id", "email", "name", "source", "tier", "created_at")


def stream_users(database: DatabaseManager) -> Iterator[Sequence[Sequence[Any]]]:
    """Yield the values of EXPORTED for users live at one moment, in id order, page by page."""
    with database.snapshot() as connection:
        yield from queries.stream_users(connection)


class Known(NamedTuple):
    """Facts about a new user beside its document."""

    password_hash: str | None
    is_verified: bool
    """Whether the address is known to be the user's own."""


def pack_users(new: Sequence[UserCreate], known: Iterable[Known]) -> NewUsers:
    """Turn users into columns to be stored, with ascending new ids; works in any process."""
    keys = [keys_of(each.email) for each in new]
    facts = list(known)
    return NewUsers(
        id=uuid7_batch(len(new)),
        email=[each.email for each in new],
        email_key=[each.spelling for each in keys],
        mailbox_key=[each.mailbox for each in keys],
        name=[each.name for each in new],
        signup_source=[each.source or "import" for each in new],
        tier=[each.tier or "free" for each in new],
        password_hash=[each.password_hash for each in facts],
        verified_key=[
            key.mailbox if each.is_verified else None for key, each in zip(keys, facts, strict=True)
        ],
    )


def import_users(
    connection: Connection, new: NewUsers, *, are_likely_free: bool = True
) -> dict[str, str]:
    """Create users in the caller's transaction; skip users whose address is taken.

    No e-mails follow, because imported users have not just signed up.

    Args:
        connection: The connection of that transaction.
        new: The users; of several with one address, the first is created.
        are_likely_free: Whether all addresses are expected to be free, the cheap case.

    Returns:
        Key of the mailbox -> tier, for each created user.
    """
    if not new.id:
        return {}
    now = read_time(connection)
    shared = {
        "status": Status.ACTIVE,
        "is_superuser": False,
        "version": 1,
        "created_at": now,
        "updated_at": now,
    }
    if are_likely_free and queries.copy_users(connection, new, shared):
        return dict(zip(new.mailbox_key, new.tier, strict=True))
    return queries.insert_users(connection, new, shared)
