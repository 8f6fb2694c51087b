"""SQL about credentials; the caller owns the connection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Text, Uuid, bindparam, or_, select, update

from chassis.signatures import NO_CLAIMS, AccessClaims
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


class _OfToken:
    """Reads columns of the user of an access token, while the token's log-in lives.

    The user is live and not suspended. A token that names no log-in holds if it was issued in a
    later second than that in which all log-ins of the user were ended.
    """

    def __init__(self, *columns: ColumnElement[Any]) -> None:
        user = select(*columns).where(users.c.id == bindparam("user_id"), IN_GOOD_STANDING)
        log_in = bindparam("session_id", type_=Uuid())
        ended_at, issued_at = users.c.sessions_ended_at, bindparam("issued_at", type_=UtcDateTime())
        self._by_session = Prepared(user.where(users.c.id == owner_of(log_in)))
        self._by_issue = Prepared(user.where(or_(ended_at.is_(None), ended_at < issued_at)))

    def first(self, connection: AnyConnection, claims: AccessClaims) -> tuple[Any, ...] | None:
        if claims.session_id is not None:
            parameters = {"user_id": claims.subject, "session_id": claims.session_id}
            return self._by_session.first(connection, parameters)
        since = {"user_id": claims.subject, "issued_at": claims.issued_at}
        return self._by_issue.first(connection, since)


# A suspended user is granted nothing, and no token of before works.
_CREDENTIALS = (users.c.id, users.c.password_hash, IS_SUSPENDED)
_CLAIMED = (users.c.email, users.c.verified_key, users.c.roles)
_IS_SUPERUSER = _OfToken(users.c.is_superuser)
_CLAIMS = _OfToken(*_CLAIMED)
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


def find_is_superuser(connection: AnyConnection, claims: AccessClaims) -> bool | None:
    """Tell whether the user of an access token is a superuser; None if the token has ended."""
    row = _IS_SUPERUSER.first(connection, claims)
    return row[0] if row is not None else None


def find_claims(connection: AnyConnection, claims: AccessClaims) -> dict[str, Any] | None:
    """Return the claims that the user of an access token has now; None if the token has ended."""
    row = _CLAIMS.first(connection, claims)
    return _claims(*row) if row is not None else None


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
