"""Rules and transactions for the rights of superusers."""

from __future__ import annotations

import logging
from uuid import UUID

from sqlalchemy import Connection

from chassis.errors import Forbidden
from chassis.storage import audit
from chassis.storage.database import DatabaseManager
from userservice.actions import Action
from userservice.standing import queries
from userservice.users import superusers
from userservice.users.credentials_queries import Checked
from userservice.users.errors import UserNotFound
from userservice.users.superusers_queries import RightsRow, lock_superusers

logger = logging.getLogger(__name__)


def promote(database: DatabaseManager, user_id: UUID, *, by: Checked | None = None) -> None:
    """Give a live user the rights of a superuser.

    Args:
        database: The database that stores the user.
        user_id: The user.
        by: The superuser who asks for it, as the check of the password found the row; None: an
            operator.

    Raises:
        UserNotFound: there is no such live user.
        Forbidden: who asks for it is no superuser any more, or has another password meanwhile.
    """
    with database.transaction() as connection:
        asking = () if by is None else (by.id,)
        rows = {each.id: each for each in lock_superusers(connection, user_id, *asking)}
        if by is not None and not superusers.is_still_able(rows.get(by.id), by):
            raise Forbidden
        is_new = _set(connection, rows.get(user_id), is_superuser=True)
    if is_new:
        logger.info("User promoted", extra={"user_id": str(user_id)})


def demote(database: DatabaseManager, user_id: UUID) -> None:
    """Take the rights of a superuser from a live user, at once.

    Raises:
        UserNotFound: there is no such live user.
        LastSuperuser: no other superuser could log in.
    """
    with database.transaction() as connection:
        user = superusers.spare_last(connection, user_id)
        is_new = _set(connection, user, is_superuser=False)
    if is_new:
        logger.info("User demoted", extra={"user_id": str(user_id)})


def _set(connection: Connection, user: RightsRow | None, *, is_superuser: bool) -> bool:
    """Change the rights of a user whose row is locked; return False if they are so already."""
    if user is None or not user.is_live:
        raise UserNotFound
    if user.is_superuser == is_superuser:
        return False
    action = Action.USER_PROMOTED if is_superuser else Action.USER_DEMOTED
    audit.record(connection, action, user.id, changed=["is_superuser"])
    return queries.change_user(connection, user.id, is_superuser=is_superuser)
