"""Rules and transactions for suspension, roles and accounts."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from uuid import UUID

from chassis.storage.database import DatabaseManager
from userservice.logins.endings import Reason, report_ended
from userservice.standing import queries
from userservice.standing.queries import AccountRow
from userservice.users import credentials, superusers
from userservice.users.errors import UserNotFound
from userservice.users.links import voided
from userservice.users.queries import update_user

logger = logging.getLogger(__name__)


def suspend(database: DatabaseManager, user_id: UUID, reason: str | None = None) -> None:
    """Keep a user out: log-ins and links end, no password is right until a reinstatement.

    The reason of a user who is suspended already is replaced.

    Raises:
        UserNotFound: there is no such live user.
        LastSuperuser: no other superuser could log in.
    """
    with database.transaction() as connection:
        user = superusers.spare_last(connection, user_id)
        if user is None or not user.is_live:
            raise UserNotFound
        if user.is_suspended:
            queries.change_user(connection, user_id, suspension_reason=reason)
            return
        update_user(connection, user_id, queries.suspended(reason) | voided())
        ended = credentials.delete_log_ins(connection, user_id)
    report_ended(user_id, ended, Reason.SUSPENSION)
    logger.info("User suspended", extra={"user_id": str(user_id)})


def reinstate(database: DatabaseManager, user_id: UUID) -> None:
    """Let a suspended user in again, with the password of before; links of before stay void.

    Raises:
        UserNotFound: there is no such live user.
    """
    with database.transaction() as connection:
        user = credentials.lock_user(connection, user_id)
        if user is None:
            raise UserNotFound
        if not user.is_suspended:
            return
        update_user(connection, user_id, queries.reinstated() | voided())
    logger.info("User reinstated", extra={"user_id": str(user_id)})


def set_roles(database: DatabaseManager, user_id: UUID, roles: Sequence[str]) -> None:
    """Give a user these roles and no others; here they grant nothing.

    Raises:
        UserNotFound: there is no such live user.
    """
    with database.connection() as connection:
        if not queries.change_user(connection, user_id, roles=list(roles)):
            raise UserNotFound
    logger.info("User roles set", extra={"user_id": str(user_id)})


def read_account(database: DatabaseManager, user_id: UUID) -> AccountRow:
    """Return the account of a live user, suspended or not.

    Raises:
        UserNotFound: there is no such live user.
    """
    with database.connection() as connection:
        account = queries.find_account(connection, user_id)
    if account is None:
        raise UserNotFound
    return account
