"""SQL about users as operators see them; the caller owns the connection."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Connection, delete, func, select, update

from chassis.storage.clock import database_time
from userservice.logins.queries import LIVING, tokens
from userservice.users.queries import STATUS, having, users


class UserDetails(NamedTuple):
    """A user, deleted or not, without secrets."""

    id: UUID
    email: str
    name: str
    status: str
    signup_source: str
    tier: str
    is_superuser: bool
    has_password: bool
    version: int
    created_at: datetime
    updated_at: datetime
    verified_key: str | None
    pending_email: str | None
    password_changed_at: datetime | None
    suspended_at: datetime | None
    suspension_reason: str | None
    roles: Sequence[str] | None


class Filter(NamedTuple):
    """The users of a list; None for all who are not deleted."""

    status: str | None
    is_superuser: bool
    """Only superusers."""
    after: UUID | None
    """Only users behind this id."""
    limit: int


class Ended(NamedTuple):
    """Users whose log-ins were ended, in the order of their ids, and how many lived."""

    users: Sequence[UUID]
    sessions: int


_COMPUTED = {
    "status": STATUS,
    "has_password": users.c.password_hash.is_not(None).label("has_password"),
}
_COLUMNS = tuple(
    _COMPUTED[name] if name in _COMPUTED else users.c[name] for name in UserDetails._fields
)


def find_user(connection: Connection, user_id: UUID) -> UserDetails | None:
    """Return a user, deleted or not."""
    row = connection.execute(select(*_COLUMNS).where(users.c.id == user_id)).first()
    return UserDetails(*row) if row is not None else None


def list_users(connection: Connection, wanted: Filter) -> Sequence[UserDetails]:
    """Return users in id order."""
    statement = select(*_COLUMNS).where(having(wanted.status))
    if wanted.is_superuser:
        statement = statement.where(users.c.is_superuser)
    if wanted.after is not None:
        statement = statement.where(users.c.id > wanted.after)
    rows = connection.execute(statement.order_by(users.c.id).limit(wanted.limit))
    return [UserDetails(*row) for row in rows]


def end_log_ins(connection: Connection, after: UUID | None, *, limit: int) -> Ended:
    """End all log-ins of the next users who have some; none of them means that all are done.

    The users' rows are changed first, in the order of their ids: see
    `userservice.users.credentials`.
    """
    statement = select(tokens.c.user_id).distinct().order_by(tokens.c.user_id).limit(limit)
    if after is not None:
        statement = statement.where(tokens.c.user_id > after)
    found = connection.scalars(statement).all()
    lock = select(users.c.id).where(users.c.id.in_(found)).order_by(users.c.id)
    connection.execute(lock.with_for_update(key_share=True))
    of_found = users.c.id.in_(found)
    connection.execute(update(users).where(of_found).values(sessions_ended_at=database_time()))
    has_token = tokens.c.user_id.in_(found)
    living = connection.scalar(select(func.count()).where(has_token, LIVING)) or 0
    connection.execute(delete(tokens).where(has_token))
    return Ended(found, living)
