"""SQL about the rights of superusers; the caller owns the connection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Connection, and_, or_, select

from userservice.users.queries import IS_SUSPENDED, LIVE, users


class RightsRow(NamedTuple):
    """The rights of a user.

    Attributes:
        is_able: Whether it is a superuser who could log in: live, not suspended, with a password.
    """

    id: UUID
    is_live: bool
    is_suspended: bool
    is_superuser: bool
    password_hash: str | None
    version: int
    is_able: bool


IS_ABLE = and_(LIVE, users.c.is_superuser, ~IS_SUSPENDED, users.c.password_hash.is_not(None))
_COLUMNS = (
    *(users.c.id, LIVE.label("is_live"), IS_SUSPENDED.label("is_suspended")),
    *(users.c.is_superuser, users.c.password_hash, users.c.version, IS_ABLE.label("is_able")),
)


def lock_superusers(connection: Connection, *ids: UUID) -> Sequence[RightsRow]:
    """Lock the rows of all live superusers, and of some users of any status, in id order."""
    statement = (
        select(*_COLUMNS)
        .where(or_(and_(users.c.is_superuser, LIVE), users.c.id.in_(ids)))
        .order_by(users.c.id)
        # Others may still refer to the rows, as an INSERT of a token does.
        .with_for_update(key_share=True)
    )
    return [RightsRow(*row) for row in connection.execute(statement)]


def lock_rights(connection: Connection, user_id: UUID) -> bool:
    """Lock the row of a live user; tell whether there is one, who is a superuser."""
    statement = select(users.c.is_superuser).where(users.c.id == user_id, LIVE)
    # As `lock_superusers` does.
    return bool(connection.scalar(statement.with_for_update(key_share=True)))
