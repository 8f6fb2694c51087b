"""Rules and transactions for users. Knows neither HTTP nor SQL."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy.exc import IntegrityError

from chassis.actor import ActorKind, actor
from chassis.errors import AppError, PreconditionFailed
from chassis.storage import audit
from chassis.storage.columns import violates_unique
from chassis.storage.database import DatabaseManager
from userservice.actions import Action, and_sessions
from userservice.logins.endings import Reason, report_ended
from userservice.users import credentials, links, messages, queries, superusers
from userservice.users.addresses import keys_of
from userservice.users.errors import EmailTaken, UserNotFound
from userservice.users.models import Status
from userservice.users.queries import UserRow
from userservice.users.schemas import UserUpdate

logger = logging.getLogger(__name__)

PURGE_BATCH = 1000


def get_user(database: DatabaseManager, user_id: UUID) -> UserRow:
    """Return a live user.

    Raises:
        UserNotFound: there is none with this id.
    """
    with database.prepared() as connection:
        user = queries.find_user(connection, user_id)
    if user is None:
        raise UserNotFound
    return user


def get_users(database: DatabaseManager, ids: Collection[UUID]) -> dict[UUID, UserRow]:
    """Return the live ones of some users by their ids."""
    with database.connection() as connection:
        return {user.id: user for user in queries.find_users(connection, ids)}


def list_users(
    database: DatabaseManager,
    *,
    status: Status | None,
    email: str | None,
    after: UUID | None,
    limit: int,
) -> Sequence[UserRow]:
    """Return one page of users in id order; fewer than `limit` means it is the last.

    Args:
        status: Which users; None: the living, suspended or not.
        email: Only users with this mailbox, in any spelling of its address.
        after: Id of the last user of the page before.
        limit: Largest number of users to return.
    """
    with database.connection() as connection:
        return queries.list_users(connection, status=status, email=email, after=after, limit=limit)


def update_user(
    database: DatabaseManager,
    user_id: UUID,
    changes: UserUpdate,
    *,
    versions: Collection[int] | None = None,
    is_announced: bool = False,
) -> UserRow:
    """Change the members that `changes` brings along; record it, unless users change themselves.

    Args:
        versions: Versions the caller may have seen; None when any will do.
        is_announced: Whether the address that was in force before is told of another one.

    Raises:
        UserNotFound: there is no such live user.
        PreconditionFailed: the user is at another version.
        EmailTaken: another live user has the new address.
        SuperuserProtected: the user is out of reach of the one who acts.
    """
    values: dict[str, Any] = changes.model_dump(exclude_unset=True)
    if not values:
        return _at_version(get_user(database, user_id), versions)
    if "email" not in values:
        return _change(database, user_id, values, versions)
    values |= key_columns(values["email"]) | links.voided()
    user = _change(database, user_id, values, versions, is_announced=is_announced)
    logger.info("E-mail address changed by an administrator", extra={"user_id": str(user_id)})
    return user


def delete_user(
    database: DatabaseManager, user_id: UUID, *, versions: Collection[int] | None = None
) -> None:
    """Take a user out of sight, and end the user's log-ins; the row is purged later.

    Raises:
        UserNotFound: there is no such live user, or no longer.
        PreconditionFailed: the user is at another version.
        LastSuperuser: no other superuser could log in.
        SuperuserProtected: the user is out of reach of the one who acts.
    """
    # Perhaps a superuser: only then the rows of all superusers are locked. In a transaction of its
    # own, because the first may hold the user's row already, and they are locked in one order.
    ended = _delete(database, user_id, versions, is_superuser=False)
    if ended is None:
        ended = _delete(database, user_id, versions)
    if ended is None:
        raise _refusal(database, user_id)
    report_ended(user_id, ended, Reason.DELETION)


def count_users(database: DatabaseManager) -> dict[str, int]:
    """Return status -> number of users; reads the whole table."""
    with database.connection() as connection:
        return queries.count_users(connection)


def count_purgeable_users(database: DatabaseManager, *, before: datetime) -> int:
    """Count the users whose deletion lies before a point in time."""
    with database.connection() as connection:
        return queries.count_purgeable(connection, before=before)


def purge_deleted_users(database: DatabaseManager, *, before: datetime) -> Iterator[int]:
    """Remove users whose deletion lies before a point in time; yield the size of each batch."""
    return database.purge(
        lambda connection, limit: queries.purge_users(connection, before=before, limit=limit),
        limit=PURGE_BATCH,
    )


def key_columns(email: str) -> dict[str, str]:
    """Return the columns by which a user with this address is found."""
    keys = keys_of(email)
    return {"mailbox_key": keys.mailbox, "email_key": keys.spelling}


def conflict(error: IntegrityError) -> Exception:
    """Return the failure for a violated constraint."""
    is_taken = any(violates_unique(error, "users", key) for key in ("mailbox_key", "email_key"))
    return EmailTaken() if is_taken else error


def _change(
    database: DatabaseManager,
    user_id: UUID,
    values: dict[str, Any],
    versions: Collection[int] | None,
    *,
    is_announced: bool = False,
) -> UserRow:
    event = _change_by_another(user_id, values)
    try:
        with database.transaction() if is_announced else database.one_statement() as connection:
            former = queries.lock_email(connection, user_id) if is_announced else None
            user = queries.update_user(
                connection,
                user_id,
                values,
                versions=versions,
                is_superuser=superusers.reach(),
                event=event,
            )
            if user is not None and former is not None:
                messages.announce_change(connection, user_id, former=former, new=user.email)
    except IntegrityError as error:
        raise conflict(error) from error
    if user is None:
        raise _refusal(database, user_id)
    return user


def _delete(
    database: DatabaseManager,
    user_id: UUID,
    versions: Collection[int] | None,
    *,
    is_superuser: bool | None = None,
) -> int | None:
    """Delete a user; return how many log-ins ended, or None without such a user."""
    values = {"status": Status.DELETED, "password_hash": None}
    with database.transaction() as connection:
        if is_superuser is None:
            superusers.spare_last(connection, user_id)
        user = queries.update_user(
            connection, user_id, values, versions=versions, is_superuser=is_superuser
        )
        if user is None:
            return None
        ended = credentials.delete_log_ins(connection, user_id)
        audit.record(connection, Action.USER_DELETED, user_id, changed=and_sessions(ended))
        return ended


def _change_by_another(user_id: UUID, values: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the deed of a change by another than the user; None for the user's own."""
    by = actor.get()
    if by.kind is ActorKind.USER and by.id == str(user_id):
        return None
    # As they were sent: the same name again is a new version of the document, too.
    changed = UserUpdate.model_fields.keys() & values.keys()
    return audit.new_event(Action.USER_CHANGED, user_id, changed=changed)


def _refusal(database: DatabaseManager, user_id: UUID) -> AppError:
    """Return the reason why a user was not changed.

    Raises:
        SuperuserProtected: as in `superusers.require_reach`.
    """
    with database.transaction() as connection:
        superusers.require_reach(connection, user_id)
        is_there = queries.find_user(connection, user_id) is not None
    return PreconditionFailed() if is_there else UserNotFound()


def _at_version(user: UserRow, versions: Collection[int] | None) -> UserRow:
    if versions is not None and user.version not in versions:
        raise PreconditionFailed
    return user
