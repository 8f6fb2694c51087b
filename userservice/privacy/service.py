"""Rules and transactions: all that is stored of a person is handed out, or erased."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Connection

from chassis.actor import ActorKind, actor
from chassis.background import upkeep
from chassis.errors import Forbidden, PreconditionFailed
from chassis.storage import audit, idempotency, trail
from chassis.storage.database import DatabaseManager
from userservice.actions import Action, and_sessions
from userservice.logins import queries as logins
from userservice.logins.endings import Reason, report_ended
from userservice.privacy import queries
from userservice.privacy.queries import VersionRow
from userservice.privacy.schemas import ExportRead, deeds_of
from userservice.users import credentials, superusers
from userservice.users.errors import LastSuperuser, SuperuserProtected, UserNotFound
from userservice.users.messages import CHANGE_REQUESTED
from userservice.users.superusers_queries import RightsRow

logger = logging.getLogger(__name__)

# Deeds of the audit trail in an export, the newest; administrators can read older ones.
SHOWN_DEEDS = 1000


class Replayed(NamedTuple):
    """The outcome of erasures that are repeated.

    Attributes:
        erased: How many users were there, and are gone.
        absent: How many were gone already.
        spared: Users who are the last superuser who could log in.
    """

    erased: int
    absent: int
    spared: list[UUID]


def export_person(database: DatabaseManager, user_id: UUID, *, is_whole: bool = True) -> ExportRead:
    """Return all that is stored of a live user, but secrets, at one moment.

    The audit trail has a row about it before it is returned.

    Unless it `is_whole`, it leaves out what administrators alone see: the reason of a suspension,
    and messages to an address that waits. Their fate tells whether somebody else has it.

    Raises:
        UserNotFound: there is no such live user.
    """
    with database.snapshot() as connection:
        person = queries.find_person(connection, user_id)
        if person is None:
            raise UserNotFound
        about = upkeep.list_about(connection, user_id)
        document = ExportRead.of(
            person if is_whole else {**person, "suspension_reason": None},
            logins.list_living(connection, user_id, limit=logins.MAX_LOG_INS),
            [each for each in about if is_whole or each["topic"] != CHANGE_REQUESTED],
            idempotency.list_answers(connection, user_id),
            deeds_of(user_id, trail.list_about(connection, user_id, limit=SHOWN_DEEDS)),
        )
    audit.begin(database, Action.USER_EXPORTED, user_id)
    return document


def find_version(database: DatabaseManager, user_id: UUID) -> VersionRow:
    """Return the version of a user, deleted or not.

    Raises:
        UserNotFound: there is no such user.
    """
    with database.connection() as connection:
        found = queries.find_version(connection, user_id)
    if found is None:
        raise UserNotFound
    return found


def erase(
    database: DatabaseManager, user_id: UUID, *, versions: Collection[int] | None = None
) -> None:
    """Remove at once all that is stored of a user, who may be deleted already.

    Args:
        database: The database that stores the user.
        user_id: The user.
        versions: Versions the caller may have seen; None when any will do.

    Raises:
        UserNotFound: there is no such user.
        Forbidden: the user is a superuser, and an API key acts, be it that of the environment.
        LastSuperuser: no other superuser could log in.
        PreconditionFailed: the user is at another version.
    """
    with database.transaction() as connection:
        user, is_last = superusers.hold(connection, user_id)
        _require(user, versions)
        if is_last:
            raise LastSuperuser
        ended = _erase(connection, user_id)
    report_ended(user_id, ended, Reason.DELETION)
    logger.info("User erased", extra={"user_id": str(user_id)})


def replay(database: DatabaseManager, ids: Iterable[UUID]) -> Replayed:
    """Erase users again whom a restored backup has brought back; others stay as they are."""
    erased, absent, spared = 0, 0, []
    for user_id in dict.fromkeys(ids):
        try:
            erase(database, user_id)
        except UserNotFound:
            absent += 1
        except LastSuperuser:
            spared.append(user_id)
        else:
            erased += 1
    return Replayed(erased, absent, spared)


def _require(user: RightsRow | None, versions: Collection[int] | None) -> None:
    if user is None:
        raise UserNotFound
    if user.is_superuser and actor.get().kind is ActorKind.KEY:
        # The key of the environment got this answer before there were others.
        raise SuperuserProtected if actor.get().is_named_key else Forbidden
    if versions is not None and user.version not in versions:
        raise PreconditionFailed


def _erase(connection: Connection, user_id: UUID) -> int:
    """Remove a user whose row is locked; return how many log-ins ended."""
    ended = credentials.delete_log_ins(connection, user_id)
    queries.delete_row(connection, user_id)
    idempotency.forget(connection, user_id)
    upkeep.forget(connection, user_id)
    # The id names nobody any more.
    audit.record(connection, Action.USER_ERASED, user_id, changed=and_sessions(ended))
    return ended
