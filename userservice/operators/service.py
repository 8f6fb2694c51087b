"""Rules for operators: they look at any user, and end log-ins."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import suppress
from uuid import UUID

from chassis.storage import audit
from chassis.storage.database import DatabaseManager
from userservice.actions import Action
from userservice.logins import queries as logins
from userservice.logins.metrics import Reason, count_ended
from userservice.operators import queries
from userservice.operators.queries import Filter, UserDetails
from userservice.users import credentials
from userservice.users.errors import UserNotFound

logger = logging.getLogger(__name__)

# Users whose rows one transaction locks.
BATCH_USERS = 200


def find_id(database: DatabaseManager, named: str) -> UUID:
    """Return the id that a text is, or that of the live user with such an address.

    Raises:
        UserNotFound: it is no id, and no address of a live user.
    """
    with suppress(ValueError):
        return UUID(named)
    known = credentials.find_credentials(database, named)
    if known is None:
        raise UserNotFound
    return known.id


def get_user(database: DatabaseManager, user_id: UUID) -> tuple[UserDetails, int]:
    """Return a user, deleted or not, and the number of log-ins that live.

    Raises:
        UserNotFound: there is none with this id.
    """
    with database.connection() as connection:
        user = queries.find_user(connection, user_id)
        if user is None:
            raise UserNotFound
        return user, logins.count_living(connection, user_id)


def list_users(database: DatabaseManager, wanted: Filter) -> Sequence[UserDetails]:
    """Return users in the order of their registration."""
    with database.connection() as connection:
        return queries.list_users(connection, wanted)


def end_all_sessions(database: DatabaseManager) -> Iterator[int]:
    """End all log-ins of all users; yield how many lived, batch by batch.

    A batch is a transaction, with a row in the audit trail.

    A log-in that begins meanwhile may stay.
    """
    after, users, sessions = None, 0, 0
    while True:
        with database.transaction() as connection:
            ended = queries.end_log_ins(connection, after, limit=BATCH_USERS)
            if ended.users:
                audit.record(connection, Action.USERS_SESSIONS_ENDED, None)
        if not ended.users:
            break
        after = ended.users[-1]
        users, sessions = users + len(ended.users), sessions + ended.sessions
        count_ended(Reason.REQUEST, ended.sessions)
        yield ended.sessions
    logger.info("All sessions ended", extra={"users": users, "sessions": sessions})
