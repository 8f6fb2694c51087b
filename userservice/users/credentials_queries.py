"""SQL about credentials; the caller owns the connection."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Connection, Text, bindparam, select, update

from chassis.storage.prepared import AnyConnection, Prepared
from userservice.users.addresses import mailbox_key
from userservice.users.queries import HAS_MAILBOX, LIVE, mailbox_parameters, users


class CredentialsRow(NamedTuple):
    """The credentials of a user."""

    id: UUID
    password_hash: str | None


_GET_IS_SUPERUSER = Prepared(
    select(users.c.is_superuser).where(users.c.id == bindparam("user_id"), LIVE)
)
_GET_CREDENTIALS = Prepared(
    select(users.c.id, users.c.password_hash, users.c.email)
    .where(HAS_MAILBOX, LIVE)
    # Before all addresses had one key, one mailbox could be several users; each by its spelling.
    .order_by((users.c.email_key == bindparam("as_typed", type_=Text)).desc(), users.c.id)
)


def find_credentials(connection: AnyConnection, email: str) -> CredentialsRow | None:
    """Return the credentials of the live user with an address; any text may be one."""
    parameters = mailbox_parameters(email)
    row = _GET_CREDENTIALS.first(connection, parameters)
    # The release before changes an address without a look at the new key.
    if row is None or mailbox_key(row[2]) != parameters["mailbox"]:
        return None
    return CredentialsRow(*row[:2])


def find_is_superuser(connection: AnyConnection, user_id: UUID) -> bool | None:
    """Tell whether a live user is a superuser; None when there is no such user."""
    row = _GET_IS_SUPERUSER.first(connection, {"user_id": user_id})
    return row[0] if row is not None else None


def replace_password_hash(
    connection: Connection, user_id: UUID, *, old_hash: str, new_hash: str
) -> None:
    """Store a new hash of the same password, unless the password has changed meanwhile."""
    statement = update(users).where(users.c.id == user_id, users.c.password_hash == old_hash)
    connection.execute(statement.values(password_hash=new_hash))
