"""Rules about superusers: one remains who could log in, and API keys with names change none.

A transaction that takes a user's rights, password or row away first calls `spare_last`. It locks
the rows of all superusers in the order of their ids: two that each take away one of the last two
wait for each other in one order, and the second finds the first's work done.

A transaction that changes a user calls `require_reach` or `spare_last` first, or changes the row on
the condition that `reach` returns: then a user who is made a superuser at the same time is either
changed before, or spared.
"""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Connection

from chassis.actor import actor
from chassis.errors import Forbidden
from chassis.security import same_secret
from userservice.users import superusers_queries as queries
from userservice.users.credentials_queries import Checked
from userservice.users.errors import LastSuperuser, SuperuserProtected
from userservice.users.superusers_queries import RightsRow


class Held(NamedTuple):
    """A user whose row is locked.

    Attributes:
        user: The row of a user of any status; None without one.
        is_last: Whether the user is the only superuser who could log in.
    """

    user: RightsRow | None
    is_last: bool


def reach() -> bool | None:
    """Return the `is_superuser` of users whom the one who acts may change; None: of any.

    It depends on who acts, and not on what a caller passes on: no route can forget it.
    """
    return False if actor.get().is_named_key else None


def require_reach(connection: Connection, user_id: UUID) -> None:
    """Lock a live user whom the one who acts may change; only a key with a name costs a statement.

    Raises:
        SuperuserProtected: the user is a superuser, out of reach.
    """
    if reach() is not None and queries.lock_rights(connection, user_id):
        raise SuperuserProtected


def hold(connection: Connection, user_id: UUID) -> Held:
    """Lock a user of any status, and with it all superusers."""
    rows = queries.lock_superusers(connection, user_id)
    user = next((each for each in rows if each.id == user_id), None)
    return Held(user, [each.id for each in rows if each.is_able] == [user_id])


def spare_last(connection: Connection, user_id: UUID) -> RightsRow | None:
    """Do the same, and return the user's row.

    Raises:
        LastSuperuser: no other superuser could log in.
        SuperuserProtected: the user is a superuser, out of reach of the one who acts.
    """
    user, is_last = hold(connection, user_id)
    if user is not None and user.is_live and user.is_superuser and reach() is not None:
        raise SuperuserProtected
    if is_last:
        raise LastSuperuser
    return user


def is_still_able(row: RightsRow | None, seen: Checked) -> bool:
    """Tell whether a superuser could still log in, with the password that was checked.

    Args:
        row: The user's row, locked; None when it is gone.
        seen: The row as the check of the password found it.
    """
    if row is None or not row.is_able:
        return False
    return same_secret(row.password_hash or "", seen.password_hash or "")


def require_able(connection: Connection, seen: Checked) -> None:
    """Lock a superuser whose password was checked, until the caller's transaction ends.

    Raises:
        Forbidden: it is no superuser any more, or has another password meanwhile.
    """
    if not is_still_able(hold(connection, seen.id).user, seen):
        raise Forbidden
