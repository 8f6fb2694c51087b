"""SQL about passwords; the caller owns the connection."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import (
    Connection,
    Text,
    Uuid,
    bindparam,
    false,
    func,
    literal,
    literal_column,
    select,
    update,
)

from chassis.background import outbox
from chassis.background.redaction import PRIVATE
from chassis.storage.clock import database_time
from chassis.storage.columns import json_object
from chassis.storage.prepared import AnyConnection, Prepared
from userservice.users.addresses import is_verified
from userservice.users.messages import MAILBOX, digest_of
from userservice.users.queries import (
    HAS_MAILBOX,
    IN_GOOD_STANDING,
    IS_SUSPENDED,
    LIVE,
    mailbox_parameters,
    users,
)

# The user of messages about an address that nobody has.
NOBODY = UUID(int=0)

_OWNER = (
    select(users.c.id)
    .where(HAS_MAILBOX, IN_GOOD_STANDING)
    # As in the look-up of a log-in: by the spelling, where users of older releases share a mailbox.
    .order_by((users.c.email_key == bindparam("as_typed", type_=Text)).desc(), users.c.id)
    .limit(1)
    .scalar_subquery()
)
# VALUES and no INSERT ... SELECT: a row is written for every address, in the same time.
_INSERT_RECOVERY = Prepared(
    outbox.INSERT.values(
        payload=json_object(
            literal_column("'user_id'"),
            func.coalesce(_OWNER, literal(NOBODY, Uuid())),
            literal_column(f"'{PRIVATE}'"),
            json_object(literal_column(f"'{MAILBOX}'"), bindparam("digest", type_=Text)),
        )
    )
)


class Standing(NamedTuple):
    """The parts of a live user's row by which the way to a new password is chosen."""

    email: str
    name: str
    has_password: bool
    is_suspended: bool


def insert_recovery(connection: AnyConnection, email: str, message: Mapping[str, Any]) -> None:
    """Store a message about the user with an address, or about NOBODY, in one statement.

    Args:
        connection: The statement stands, and commits, alone.
        email: The address, in any spelling.
        message: Parameters of `outbox.INSERT`; the payload is replaced.
    """
    parameters = {**mailbox_parameters(email), "digest": digest_of(email)}
    _INSERT_RECOVERY.run(connection, {**message, **parameters})


def find_standing(connection: Connection, user_id: UUID) -> Standing | None:
    """Return what is known of a live user."""
    columns = (
        users.c.email,
        users.c.name,
        users.c.password_hash.is_not(None),
        IS_SUSPENDED,
    )
    row = connection.execute(select(*columns).where(users.c.id == user_id, LIVE)).first()
    return Standing(*row) if row is not None else None


def read_email(connection: Connection, user_id: UUID) -> str:
    """Return the address of a user whose row this transaction has changed."""
    statement = select(users.c.email).where(users.c.id == user_id)
    email: str = connection.execute(statement).scalar_one()
    return email


def has_changed_since(connection: Connection, user_id: UUID, moment: datetime) -> bool:
    """Tell whether a user's password has changed since a point in time by the database's clock."""
    statement = select(users.c.password_changed_at > moment).where(users.c.id == user_id)
    return bool(connection.scalar(statement))


def may_be_told(connection: Connection, user_id: UUID, *, quiet: timedelta) -> bool:
    """Tell whether a change of a user's password is told by e-mail.

    It is, unless nobody verified the address and the last change is less than `quiet` ago.
    """
    is_recent = users.c.password_changed_at > database_time(-quiet)
    columns = (users.c.email, users.c.verified_key, func.coalesce(is_recent, false()))
    row = connection.execute(select(*columns).where(users.c.id == user_id)).first()
    return row is None or is_verified(row[0], row[1]) or not row[2]


def update_password(
    connection: Connection, user_id: UUID, values: Mapping[str, Any], *, seen: str | None = None
) -> bool:
    """Change a live user who is not suspended; return False without such a user.

    Args:
        connection: That of a transaction.
        user_id: The user.
        values: The columns that change.
        seen: The hash that must still be there; None: any.
    """
    statement = update(users).where(users.c.id == user_id, IN_GOOD_STANDING)
    if seen is not None:
        statement = statement.where(users.c.password_hash == seen)
    return bool(connection.execute(statement.values(**values)).rowcount)
