"""SQL about links; the caller owns the connection."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, and_, select, update

from chassis.storage import audit
from userservice.users.addresses import is_verified
from userservice.users.credentials_queries import Checked
from userservice.users.models import STAMP_LENGTH
from userservice.users.queries import IN_GOOD_STANDING, NEXT_VERSION, users


class Holder(NamedTuple):
    """A user to whom a link can be given: live, and not suspended."""

    id: UUID
    email: str
    name: str
    password_hash: str | None
    stamp: str | None
    verified_key: str | None
    pending_email: str | None

    @property
    def is_verified(self) -> bool:
        """Whether the owner of the address in force has confirmed it."""
        return is_verified(self.email, self.verified_key)


# Members of a user's document; a change of others leaves its version as it is.
_SHOWN = frozenset({"email", "name", "status"})


def new_stamp() -> str:
    """Return a stamp that no row has had."""
    return secrets.token_hex(STAMP_LENGTH // 2)


def find_holder(connection: Connection, user_id: UUID) -> Holder | None:
    """Return a user to whom a link can be given."""
    columns = (users.c[name] for name in Holder._fields)
    row = connection.execute(
        select(*columns).where(users.c.id == user_id, IN_GOOD_STANDING)
    ).first()
    return Holder(*row) if row is not None else None


def give_stamp(connection: Connection, user_id: UUID) -> None:
    """Give a user a first stamp; one that is there stays."""
    statement = update(users).where(users.c.id == user_id, users.c.stamp.is_(None))
    connection.execute(statement.values(stamp=new_stamp()))


def change_holder(
    connection: Connection, holder: Holder | Checked, values: Mapping[str, Any]
) -> bool:
    """Change a user who is still as `holder` says; return False otherwise.

    Raises:
        IntegrityError: the new address belongs to another live user.
    """
    change = {**values, **(NEXT_VERSION if values.keys() & _SHOWN else {})}
    statement = update(users).where(_is_still(holder)).values(**change)
    return bool(connection.execute(statement).rowcount)


def set_verified(
    connection: Connection, holder: Holder, key: str, event: Mapping[str, Any]
) -> bool:
    """Note the key of the address that a user has verified, and record it.

    Returns:
        False, and nothing recorded, if it is noted already, or the user is not as `holder` says.
    """
    statement = update(users).where(_is_still(holder), users.c.verified_key.is_distinct_from(key))
    noted = statement.values(verified_key=key).returning(users.c.id)
    return audit.run_recorded(connection, noted, event) is not None


def _is_still(holder: Holder | Checked) -> ColumnElement[bool]:
    return and_(
        users.c.id == holder.id,
        users.c.stamp == holder.stamp,
        users.c.email == holder.email,
        IN_GOOD_STANDING,
    )
