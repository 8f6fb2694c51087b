"""SQL about credentials; the caller owns the connection."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, Text, Uuid, bindparam, or_, select, update

from chassis.signatures import NO_CLAIMS
from chassis.storage.clock import database_time
from chassis.storage.columns import UtcDateTime
from chassis.storage.prepared import AnyConnection, Prepared
from userservice.logins.queries import owner_of
from userservice.users.addresses import mailbox_key
from userservice.users.queries import (
    HAS_MAILBOX,
    IN_GOOD_STANDING,
    IS_SUSPENDED,
    LIVE,
    mailbox_parameters,
    users,
)


class CredentialsRow(NamedTuple):
    """The credentials of a user."""

    id: UUID
    password_hash: str | None
    is_suspended: bool = False
    claims: Mapping[str, Any] = NO_CLAIMS
    """The claims of tokens that others verify; read only where the row is locked."""


class Checked(NamedTuple):
    """A user as the check of the password found the row: what a change may rely on."""

    id: UUID
    email: str
    password_hash: str | None
    stamp: str | None


# A suspended user is granted nothing, and no token of before works.
_CREDENTIALS = (users.c.id, users.c.password_hash, IS_SUSPENDED)
_IS_SUPERUSER = select(users.c.is_superuser).where(
    users.c.id == bindparam("user_id"), IN_GOOD_STANDING
)
_GET_BY_SESSION = Prepared(
    _IS_SUPERUSER.where(users.c.id == owner_of(bindparam("session_id", type_=Uuid())))
)
_GET_BY_ISSUE = Prepared(
    _IS_SUPERUSER.where(
        or_(
            users.c.sessions_ended_at.is_(None),
            users.c.sessions_ended_at < bindparam("issued_at", type_=UtcDateTime()),
        )
    )
)
_CLAIMED = (users.c.email, users.c.verified_key, users.c.roles)
_GET_CREDENTIALS = Prepared(
    select(*_CREDENTIALS, users.c.email)
    .where(HAS_MAILBOX, LIVE)
    # Before all addresses had one key, one mailbox could be several users; each by its spelling.
    .order_by((users.c.email_key == bindparam("as_typed", type_=Text)).desc(), users.c.id)
)


def find_credentials(connection: AnyConnection, email: str) -> CredentialsRow | None:
    """Return the credentials of the live user with an address; any text may be one."""
    parameters = mailbox_parameters(email)
    row = _GET_CREDENTIALS.first(connection, parameters)
    # The release before changes an address without a look at the new key.
    if row is None or mailbox_key(row[-1]) != parameters["mailbox"]:
        return None
    return CredentialsRow(*row[:-1])


def find_checked(connection: Connection, user_id: UUID) -> Checked | None:
    """Return what is checked of a live user."""
    columns = (users.c[name] for name in Checked._fields)
    row = connection.execute(select(*columns).where(users.c.id == user_id, LIVE)).first()
    return Checked(*row) if row is not None else None


def find_is_superuser(connection: AnyConnection, user_id: UUID, *, session_id: UUID) -> bool | None:
    """Tell whether a user is a superuser.

    None without such a user, live and not suspended, or without a log-in that lives.
    """
    parameters = {"user_id": user_id, "session_id": session_id}
    row = _GET_BY_SESSION.first(connection, parameters)
    return row[0] if row is not None else None


def find_is_superuser_since(
    connection: AnyConnection, user_id: UUID, *, issued_at: datetime
) -> bool | None:
    """Tell the same of a token that names no log-in; None if all were ended since `issued_at`.

    Args:
        connection: The caller's.
        user_id: The user that the token names.
        issued_at: The second in which the token was issued: the end in the same second counts.
    """
    parameters = {"user_id": user_id, "issued_at": issued_at}
    row = _GET_BY_ISSUE.first(connection, parameters)
    return row[0] if row is not None else None


def share_user(connection: Connection, user_id: UUID) -> dict[str, Any] | None:
    """Keep a user as it is until the transaction's end; return the claims of its tokens.

    None if it is granted nothing.
    """
    statement = select(*_CLAIMED).where(users.c.id == user_id, IN_GOOD_STANDING)
    row = connection.execute(statement.with_for_update(read=True)).first()
    return _claims(*row) if row is not None else None


def lock_user(connection: Connection, user_id: UUID) -> CredentialsRow | None:
    """Lock the row of a live user as an UPDATE does, and return its credentials."""
    statement = select(*_CREDENTIALS, *_CLAIMED).where(users.c.id == user_id, LIVE)
    # Others may still refer to the row, as an INSERT of a token does.
    row = connection.execute(statement.with_for_update(key_share=True)).first()
    if row is None:
        return None
    found_id, password_hash, is_suspended, *claimed = row
    return CredentialsRow(found_id, password_hash, is_suspended, _claims(*claimed))


def _claims(email: str, verified_key: str | None, roles: list[str] | None) -> dict[str, Any]:
    """Return the claims of a user's tokens for other services: no name, and no address."""
    # The release before changes an address without a look at the key that was verified.
    is_verified = verified_key is not None and verified_key == mailbox_key(email)
    return {"roles": roles or [], "email_verified": is_verified}


def mark_sessions_ended(connection: Connection, user_id: UUID) -> bool:
    """Note that all log-ins of a live user end now; return False without such a user."""
    statement = update(users).where(users.c.id == user_id, LIVE)
    return bool(connection.execute(statement.values(sessions_ended_at=database_time())).rowcount)


def replace_password_hash(
    connection: Connection, user_id: UUID, *, old_hash: str, new_hash: str
) -> bool:
    """Store a new hash of the same password; return False if the password changed meanwhile."""
    statement = update(users).where(users.c.id == user_id, users.c.password_hash == old_hash)
    return bool(connection.execute(statement.values(password_hash=new_hash)).rowcount)
