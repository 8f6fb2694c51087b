"""The rule that a superuser remains who could log in, whatever happens at the same time.

A transaction that takes a user's rights, password or row away first calls `spare_last`. It locks
the rows of all superusers in the order of their ids: two that each take away one of the last two
wait for each other in one order, and the second finds the first's work done.
"""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Connection

from userservice.users import superusers_queries as queries
from userservice.users.errors import LastSuperuser
from userservice.users.superusers_queries import RightsRow


class Held(NamedTuple):
    """A user whose row is locked.

    Attributes:
        user: The row of a user of any status; None without one.
        is_last: Whether the user is the only superuser who could log in.
    """

    user: RightsRow | None
    is_last: bool


def hold(connection: Connection, user_id: UUID) -> Held:
    """Lock a user of any status, and with it all superusers."""
    rows = queries.lock_superusers(connection, user_id)
    user = next((each for each in rows if each.id == user_id), None)
    return Held(user, [each.id for each in rows if each.is_able] == [user_id])


def spare_last(connection: Connection, user_id: UUID) -> RightsRow | None:
    """Do the same, and return the user's row.

    Raises:
        LastSuperuser: no other superuser could log in.
    """
    user, is_last = hold(connection, user_id)
    if is_last:
        raise LastSuperuser
    return user
