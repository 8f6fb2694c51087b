"""Rules and transactions for sessions."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from chassis.storage import audit
from chassis.storage.database import DatabaseManager
from userservice.actions import Action
from userservice.logins import queries
from userservice.logins.endings import Reason, report_ended
from userservice.logins.queries import SessionRow
from userservice.sessions.errors import SessionNotFound
from userservice.users import credentials, superusers
from userservice.users.errors import UserNotFound
from userservice.users.service import get_user


def list_sessions(database: DatabaseManager, user_id: UUID) -> Sequence[SessionRow]:
    """Return the newest log-ins of a user that live, the newest first.

    Raises:
        UserNotFound: there is no such live user.
    """
    get_user(database, user_id)
    with database.connection() as connection:
        return queries.list_living(connection, user_id, limit=queries.MAX_LOG_INS)


def end_session(database: DatabaseManager, user_id: UUID, session_id: UUID) -> None:
    """End one log-in of a user, with its access tokens.

    Raises:
        UserNotFound: there is no such live user.
        SessionNotFound: the user has no such log-in, or it has ended.
        SuperuserProtected: the user is out of reach of the one who acts.
    """
    with database.transaction() as connection:
        superusers.require_reach(connection, user_id)
        if credentials.lock_user(connection, user_id) is None:
            raise UserNotFound
        if not queries.delete_family(connection, user_id, session_id):
            raise SessionNotFound
        audit.record(connection, Action.SESSION_ENDED, user_id)
    report_ended(user_id, 1, Reason.REQUEST)


def end_sessions(database: DatabaseManager, user_id: UUID, *, keep: UUID | None = None) -> int:
    """End all log-ins of a user, but for `keep`; return how many.

    Access tokens that name no log-in end as well.

    Raises:
        UserNotFound: there is no such live user.
    """
    with database.transaction() as connection:
        ended = credentials.end_log_ins(connection, user_id, but=keep)
        if ended is None:
            raise UserNotFound
        # To end none is no deed: else users could fill the trail. Whether tokens that name no
        # log-in have ended, nobody knows.
        if ended:
            audit.record(connection, Action.SESSIONS_ENDED, user_id, changed=["sessions"])
    report_ended(user_id, ended, Reason.REQUEST)
    return ended
