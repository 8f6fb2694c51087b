"""SQL about log-ins and their refresh tokens; the caller owns the connection.

Callers follow the order of locks: the user's row comes first, see `userservice.users.credentials`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Connection,
    ScalarSelect,
    Table,
    and_,
    case,
    delete,
    func,
    insert,
    literal,
    null,
    select,
    update,
)

from chassis.storage.clock import NO_TIME, database_time
from userservice.logins.models import RefreshToken

# Log-ins of a user that live at the same time; another one ends the oldest.
MAX_LOG_INS = 100

tokens: Table = RefreshToken.__table__  # type: ignore[assignment]  # a Table, declared wider
UNSPENT = tokens.c.spent_at.is_(None)
_EXPIRED = tokens.c.expires_at <= database_time()
LIVING = and_(UNSPENT, ~_EXPIRED)


class LogIn(NamedTuple):
    """A user's log-in: the id of its family, and the label of the device, if that is known."""

    user_id: UUID
    family_id: UUID
    label: str | None


class Spending(NamedTuple):
    """The use of a token: the salt of its successor, while that may still be sent again."""

    salt: str | None


class SessionRow(NamedTuple):
    """A log-in that lives."""

    id: UUID
    refreshed_at: datetime | None
    expires_at: datetime
    label: str | None


def owner_of(family_id: ColumnElement[Any]) -> ScalarSelect[Any]:
    """Return the user of a log-in that lives, for the statements of others; NULL without one.

    A condition on the user inside would tempt a planner without statistics to the user's tokens.
    """
    one = select(tokens.c.user_id).where(tokens.c.family_id == family_id, LIVING)
    return one.scalar_subquery()


def find_log_in(connection: Connection, token_hash: str) -> LogIn | None:
    """Return the log-in of a token, spent or not."""
    columns = (tokens.c[name] for name in LogIn._fields)
    row = connection.execute(select(*columns).where(tokens.c.token_hash == token_hash)).first()
    return LogIn(*row) if row is not None else None


def insert_token(
    connection: Connection,
    token_hash: str,
    log_in: LogIn,
    *,
    lifetime: timedelta,
    is_successor: bool,
) -> None:
    """Store a token that is not spent: the first of its log-in, or a successor."""
    values = log_in._asdict() | {
        "token_hash": token_hash,
        "expires_at": database_time(lifetime),
        "refreshed_at": database_time() if is_successor else null(),
    }
    connection.execute(insert(tokens).values(values))


def spend_token(connection: Connection, token_hash: str, salt: str) -> bool:
    """Mark a token as spent; return False when it is unknown, expired or spent already."""
    statement = update(tokens).where(tokens.c.token_hash == token_hash, LIVING)
    values = {"spent_at": database_time(), "salt": salt}
    return bool(connection.execute(statement.values(values)).rowcount)


def find_spending(connection: Connection, token_hash: str, *, within: timedelta) -> Spending | None:
    """Return the use of a token, with the salt if it is not longer ago than `within`.

    None when the token is not spent. With `within` zero no use is recent.
    """
    is_recent = tokens.c.spent_at > database_time(-within)
    salt = case((is_recent, tokens.c.salt), else_=null()) if within > NO_TIME else null()
    statement = select(salt).where(tokens.c.token_hash == token_hash, ~UNSPENT)
    row = connection.execute(statement).first()
    return Spending(*row) if row is not None else None


def find_is_living(connection: Connection, token_hash: str) -> bool | None:
    """Tell whether a token can be used; None when it is unknown."""
    row = connection.execute(select(LIVING).where(tokens.c.token_hash == token_hash)).first()
    return bool(row[0]) if row is not None else None


def list_living(connection: Connection, user_id: UUID, *, limit: int) -> Sequence[SessionRow]:
    """Return at most `limit` living log-ins of a user, the newest first."""
    columns = (tokens.c.refreshed_at, tokens.c.expires_at, tokens.c.label)
    statement = (
        select(tokens.c.family_id, *columns)
        .where(tokens.c.user_id == user_id, LIVING)
        .order_by(tokens.c.family_id.desc())
        .limit(limit)
    )
    return [SessionRow(*row) for row in connection.execute(statement)]


def count_living(connection: Connection, user_id: UUID, *, but: UUID | None = None) -> int:
    """Count the living log-ins of a user, but for one."""
    statement = select(func.count()).where(tokens.c.user_id == user_id, LIVING)
    if but is not None:
        statement = statement.where(tokens.c.family_id != but)
    return connection.execute(statement).scalar_one()


def delete_family(connection: Connection, user_id: UUID, family_id: UUID) -> int:
    """Remove all tokens of a user's log-in that lives, spent or not; return their number.

    One that has expired has ended by itself: the cleanup removes it.
    """
    owner = owner_of(literal(family_id, tokens.c.family_id.type)).correlate(None)
    is_own = tokens.c.user_id == user_id
    statement = delete(tokens).where(tokens.c.family_id == family_id, is_own, owner == user_id)
    return connection.execute(statement).rowcount


def delete_families(connection: Connection, user_id: UUID, *, but: UUID | None = None) -> None:
    """Remove all tokens of a user, but for those of one log-in."""
    statement = delete(tokens).where(tokens.c.user_id == user_id)
    if but is not None:
        statement = statement.where(tokens.c.family_id != but)
    connection.execute(statement)


def delete_oldest(connection: Connection, log_in: LogIn, *, beside: int) -> int:
    """Remove the living log-ins of a user, but one and the newest `beside` it; return how many."""
    # Ids are in the order of the clocks of hosts; a log-in on a host that is late stays, too.
    oldest = (
        select(tokens.c.family_id)
        .where(tokens.c.user_id == log_in.user_id, tokens.c.family_id != log_in.family_id, LIVING)
        .order_by(tokens.c.family_id.desc())
        .offset(beside)
    )
    found = connection.scalars(oldest).all()
    if found:
        connection.execute(delete(tokens).where(tokens.c.family_id.in_(found)))
    return len(found)


def count_expired(connection: Connection) -> int:
    """Count the tokens that have expired."""
    return connection.execute(select(func.count()).where(_EXPIRED)).scalar_one()


def purge_expired(connection: Connection, limit: int) -> int:
    """Remove at most `limit` expired tokens; return their number."""
    # Tokens that somebody else removes are left to them: no row of a user is locked here first.
    batch = select(tokens.c.token_hash).where(_EXPIRED).limit(limit)
    unlocked = batch.with_for_update(skip_locked=True)
    return connection.execute(delete(tokens).where(tokens.c.token_hash.in_(unlocked))).rowcount
