"""What may happen to users: rules and transactions. Knows neither HTTP nor SQL."""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from chassis.background import outbox
from chassis.errors import AppError, PreconditionFailed
from chassis.security import PasswordHasher
from chassis.storage.columns import violates_unique
from chassis.storage.database import DatabaseManager
from chassis.storage.ids import uuid7, uuid7_batch
from chassis.telemetry.instruments import bounded
from chassis.telemetry.tracing import baggage_item, personal, set_attributes, trace_function
from userservice.users import queries
from userservice.users.errors import EmailTaken, UserNotFound
from userservice.users.metrics import SIGNUP_SOURCES, count_user_created
from userservice.users.models import Status
from userservice.users.queries import CredentialsRow, NewUsers, UserRow
from userservice.users.schemas import UserCreate, UserUpdate

logger = logging.getLogger(__name__)

USER_REGISTERED = "user.registered"
PURGE_BATCH = 1000


Joined = Callable[[Connection, UserRow], None]


@trace_function("create_user_record")
def register_user(
    database: DatabaseManager,
    hasher: PasswordHasher,
    new: UserCreate,
    *,
    is_superuser: bool = False,
    joined: Joined | None = None,
) -> UserRow:
    """Create a user.

    Args:
        database: Where.
        hasher: Hashes the password, if there is one.
        new: What the user brings along.
        is_superuser: Whether the user may administer others.
        joined: Work that happens together with the insert, or not at all; it comes first.

    Raises:
        EmailTaken: a live user has the address.
    """
    # Hashing is slow on purpose; it is done before a connection is taken.
    password_hash = hasher.hash(new.password.get_secret_value()) if new.password else None
    now = datetime.now(UTC)
    user = UserRow(uuid7(), new.email, new.name, Status.ACTIVE, 1, now, now)
    values = user._asdict() | {
        "email_key": email_key(new.email),
        "signup_source": new.source or "unknown",
        "tier": new.tier or "free",
        "is_superuser": is_superuser,
        "password_hash": password_hash,
    }
    source = bounded(new.source or "unknown", SIGNUP_SOURCES)
    with baggage_item("user.signup_source", source):
        try:
            _save_user(database, user, values, joined)
        except EmailTaken:
            set_attributes({"conflict.type": "duplicate_email"})
            raise
        except Exception as error:
            if not isinstance(error, AppError) or error.status >= AppError.status:
                _log_failure(error)
            raise
    count_user_created(source, new.tier or "free")
    set_attributes(
        {
            "user.id": str(user.id),
            "user.status": user.status,
            "user.signup_source": source,
            **personal({"user.email": user.email}),
        }
    )
    logger.info(
        "User created successfully", extra={"user_id": str(user.id), "signup_source": source}
    )
    return user


def _log_failure(error: Exception) -> None:
    # The traceback of an expected failure is in "Request failed", which follows.
    logger.error(
        "User creation failed",
        extra={"error_type": type(error.__cause__ or error).__name__},
        exc_info=not isinstance(error, AppError),
    )


@trace_function("user_service.save_user")
def _save_user(
    database: DatabaseManager, user: UserRow, values: dict[str, Any], joined: Joined | None
) -> None:
    message = outbox.new_message(USER_REGISTERED, {"user_id": str(user.id)})
    try:
        if joined is None and not database.is_sqlite:
            # One statement is one transaction, and one round trip.
            with database.connection() as connection:
                queries.insert_user(connection, values, message)
        else:
            with database.transaction() as connection:
                if joined is not None:
                    joined(connection, user)
                queries.insert_user(connection, values, message)
    except IntegrityError as error:
        raise _conflict(error) from error


def get_user(database: DatabaseManager, user_id: UUID) -> UserRow:
    """Return a live user.

    Raises:
        UserNotFound: there is none with this id.
    """
    with database.connection() as connection:
        user = queries.find_user(connection, user_id)
    if user is None:
        raise UserNotFound
    return user


def find_is_superuser(database: DatabaseManager, user_id: UUID) -> bool | None:
    """Tell whether a live user is a superuser; None when there is no such user."""
    with database.connection() as connection:
        return queries.find_is_superuser(connection, user_id)


def is_live(connection: Connection, user_id: UUID) -> bool:
    """Tell, within the caller's transaction, whether a user is there and not deleted."""
    return queries.find_is_superuser(connection, user_id) is not None


@trace_function("user_service.get_user_by_email")
def find_credentials(database: DatabaseManager, email: str) -> CredentialsRow | None:
    """Return what the live user with this address, in any case, logs in with."""
    with database.connection() as connection:
        credentials = queries.find_credentials(connection, email_key(email.strip()))
    set_attributes(
        {
            "operation.result": "not_found" if credentials is None else "found",
            **personal({"query.parameter.email": email}),
        }
    )
    return credentials


def store_password_hash(
    database: DatabaseManager, user_id: UUID, old_hash: str, new_hash: str
) -> None:
    """Replace a hash by a stronger one of the same password."""
    with database.connection() as connection:
        queries.replace_password_hash(connection, user_id, old_hash=old_hash, new_hash=new_hash)


# What an export says of a user, in this order.
EXPORTED = ("id", "email", "name", "source", "tier", "created_at")


def stream_users(database: DatabaseManager) -> Iterator[Sequence[Sequence[Any]]]:
    """Yield the users who live at one moment as EXPORTED, in id order, in pages of bounded size."""
    with database.snapshot() as connection:
        yield from queries.stream_users(connection)


def pack_users(new: Sequence[UserCreate], password_hashes: Sequence[str | None]) -> NewUsers:
    """Make users ready to be stored, in any process; they get their ids here, in their order."""
    return NewUsers(
        id=uuid7_batch(len(new)),
        email=[each.email for each in new],
        email_key=[email_key(each.email) for each in new],
        name=[each.name for each in new],
        signup_source=[each.source or "import" for each in new],
        tier=[each.tier or "free" for each in new],
        password_hash=password_hashes,
    )


def import_users(
    connection: Connection, new: NewUsers, *, are_likely_free: bool = True
) -> dict[str, str]:
    """Create users in the caller's transaction, but not those whose address is taken.

    No e-mails follow: who is imported has not just signed up.

    Args:
        connection: Where.
        new: Who; of several with one address, the first is created.
        are_likely_free: Whether no address is expected to be taken, which is the cheap case.

    Returns:
        Address, folded, -> tier of those who were created.
    """
    if not new.id:
        return {}
    now = datetime.now(UTC)
    shared = {
        "status": Status.ACTIVE,
        "is_superuser": False,
        "version": 1,
        "created_at": now,
        "updated_at": now,
    }
    if are_likely_free and queries.copy_users(connection, new, shared):
        return dict(zip(new.email_key, new.tier, strict=True))
    return queries.insert_users(connection, new, shared)


def list_users(
    database: DatabaseManager,
    *,
    status: Status,
    email: str | None,
    after: UUID | None,
    limit: int,
) -> Sequence[UserRow]:
    """Return one page of users in id order; fewer than `limit` means it is the last.

    Args:
        status: Which users: the living or the deleted.
        email: Only the user with this address, in any case.
        after: Id of the last user of the page before.
        limit: Largest number of users to return.
    """
    key = email_key(email.strip()) if email is not None else None
    with database.connection() as connection:
        return queries.list_users(
            connection, status=status, email_key=key, after=after, limit=limit
        )


def update_user(
    database: DatabaseManager,
    user_id: UUID,
    changes: UserUpdate,
    *,
    versions: Collection[int] | None = None,
) -> UserRow:
    """Change the members that `changes` brings along.

    Args:
        versions: Versions the caller may have seen; None when any will do.

    Raises:
        UserNotFound: there is no such live user.
        PreconditionFailed: the user is at another version.
        EmailTaken: another live user has the new address.
    """
    values: dict[str, Any] = changes.model_dump(exclude_unset=True)
    if not values:
        return _at_version(get_user(database, user_id), versions)
    if "email" in values:
        values["email_key"] = email_key(values["email"])
    return _change(database, user_id, values, versions)


def delete_user(
    database: DatabaseManager, user_id: UUID, *, versions: Collection[int] | None = None
) -> None:
    """Take a user out of sight; the row is purged later.

    Raises:
        UserNotFound: there is no such live user, or no longer.
        PreconditionFailed: the user is at another version.
    """
    _change(database, user_id, {"status": Status.DELETED, "password_hash": None}, versions)


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


def email_key(email: str) -> str:
    """Fold an address so that spellings which differ only in case are equal."""
    if email.isascii():
        return email.lower()
    folded = unicodedata.normalize("NFC", email).casefold()
    return unicodedata.normalize("NFC", folded)


def _change(
    database: DatabaseManager,
    user_id: UUID,
    values: dict[str, Any],
    versions: Collection[int] | None,
) -> UserRow:
    try:
        with database.connection() as connection:
            user = queries.update_user(
                connection, user_id, values | {"updated_at": datetime.now(UTC)}, versions=versions
            )
    except IntegrityError as error:
        raise _conflict(error) from error
    if user is None:
        get_user(database, user_id)  # raises when there is none; there is, so it has moved on
        raise PreconditionFailed
    return user


def _conflict(error: IntegrityError) -> Exception:
    return EmailTaken() if violates_unique(error, "users", "email_key") else error


def _at_version(user: UserRow, versions: Collection[int] | None) -> UserRow:
    if versions is not None and user.version not in versions:
        raise PreconditionFailed
    return user
