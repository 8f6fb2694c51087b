"""Rules and transactions for suspension, roles and accounts."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from uuid import UUID

from chassis.storage import audit
from chassis.storage.database import DatabaseManager
from userservice.actions import Action, and_sessions
from userservice.logins.endings import Reason, report_ended
from userservice.standing import queries
from userservice.standing.queries import AccountRow
from userservice.users import credentials, superusers
from userservice.users.errors import UserNotFound
from userservice.users.links import voided
from userservice.users.queries import update_user
from userservice.users.service import get_user

logger = logging.getLogger(__name__)


def suspend(database: DatabaseManager, user_id: UUID, reason: str | None = None) -> None:
    """Keep a user out: log-ins and links end, no password is right until a reinstatement.

    The reason of a user who is suspended already is replaced.

    Raises:
        UserNotFound: there is no such live user.
        LastSuperuser: no other superuser could log in.
        SuperuserProtected: the user is out of reach of the one who acts.
    """
    with database.transaction() as connection:
        user = superusers.spare_last(connection, user_id)
        if user is None or not user.is_live:
            raise UserNotFound
        if user.is_suspended:
            event = audit.new_event(Action.USER_SUSPENDED, user_id, changed=["suspension_reason"])
            queries.change_reason(connection, user_id, reason, event)
            return
        update_user(connection, user_id, queries.suspended(reason) | voided())
        ended = credentials.delete_log_ins(connection, user_id)
        members = ("standing",) if reason is None else ("standing", "suspension_reason")
        changed = and_sessions(ended, *members)
        audit.record(connection, Action.USER_SUSPENDED, user_id, changed=changed)
    report_ended(user_id, ended, Reason.SUSPENSION)
    logger.info("User suspended", extra={"user_id": str(user_id)})


def reinstate(database: DatabaseManager, user_id: UUID) -> None:
    """Let a suspended user in again, with the password of before; links of before stay void.

    Raises:
        UserNotFound: there is no such live user.
        SuperuserProtected: the user is out of reach of the one who acts.
    """
    with database.transaction() as connection:
        superusers.require_reach(connection, user_id)
        user = credentials.lock_user(connection, user_id)
        if user is None:
            raise UserNotFound
        if not user.is_suspended:
            return
        update_user(connection, user_id, queries.reinstated() | voided())
        audit.record(connection, Action.USER_REINSTATED, user_id, changed=["standing"])
    logger.info("User reinstated", extra={"user_id": str(user_id)})


def set_roles(database: DatabaseManager, user_id: UUID, roles: Sequence[str]) -> None:
    """Give a user these roles and no others; here they grant nothing.

    Raises:
        UserNotFound: there is no such live user.
        SuperuserProtected: the user is out of reach of the one who acts.
    """
    event = audit.new_event(Action.USER_ROLES_SET, user_id, changed=["roles"])
    is_bound = superusers.reach() is not None
    with database.transaction() if is_bound else database.one_statement() as connection:
        superusers.require_reach(connection, user_id)
        is_new = queries.set_roles(connection, user_id, roles, event)
    if is_new:
        logger.info("User roles set", extra={"user_id": str(user_id)})
    else:
        get_user(database, user_id)


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
