"""Registration: a user and the message about it are stored together, or not at all."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Protocol

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from chassis.actor import CALLER, actor
from chassis.background import outbox
from chassis.errors import AppError
from chassis.security import PasswordHasher
from chassis.storage import audit
from chassis.storage.database import DatabaseManager
from chassis.storage.ids import uuid7
from chassis.telemetry.instruments import bounded
from chassis.telemetry.log_event import LogEvent
from chassis.telemetry.tracing import baggage_item, personal, set_attributes, trace_function
from userservice.actions import Action
from userservice.users import messages, queries, service
from userservice.users.errors import EmailTaken
from userservice.users.metrics import SIGNUP_SOURCES, count_user_created
from userservice.users.models import Status
from userservice.users.queries import UserRow
from userservice.users.schemas import UserCreate

logger = logging.getLogger(__name__)
_created = LogEvent(logger, "User created successfully")

USER_REGISTERED = "user.registered"

InTransaction = Callable[[Connection, UserRow], None]


class Register(Protocol):
    """Stores a user. Calls `in_transaction` first, in the same transaction."""

    def __call__(self, *, in_transaction: InTransaction | None) -> UserRow:
        """Store the user and return it."""


def verifying(register: Register) -> Register:
    """Let a registration also send an e-mail by which its user verifies the address."""

    def both(*, in_transaction: InTransaction | None) -> UserRow:
        def work(connection: Connection, user: UserRow) -> None:
            if in_transaction is not None:
                in_transaction(connection, user)
            messages.request_verification(connection, user.id, user.email)

        return register(in_transaction=work)

    return both


@trace_function("create_user_record")
def register_user(
    database: DatabaseManager,
    hasher: PasswordHasher,
    new: UserCreate,
    *,
    is_superuser: bool = False,
    in_transaction: InTransaction | None = None,
) -> UserRow:
    """Create a user.

    Args:
        database: The database that stores the user.
        hasher: Hashes the password, if there is one.
        new: The validated input.
        is_superuser: Whether the user may administer others; the address counts as verified.
        in_transaction: Work to do first, in the transaction of the insert.

    Raises:
        EmailTaken: a live user has the address.
    """
    # Hashing is slow on purpose; it is done before a connection is taken.
    password_hash = hasher.hash(new.password.get_secret_value()) if new.password else None
    now = datetime.now(UTC)
    user = UserRow(uuid7(), new.email, new.name, Status.ACTIVE, 1, now, now)
    values = _columns(user, new, is_superuser=is_superuser, password_hash=password_hash)
    source = bounded(new.source or "unknown", SIGNUP_SOURCES)
    with baggage_item("user.signup_source", source):
        try:
            _save_user(database, user, values, in_transaction)
        except Exception as error:
            _tell_failure(error)
            raise
    count_user_created(source, new.tier or "free")
    _tell_success(user, source)
    return user


def _columns(
    user: UserRow, new: UserCreate, *, is_superuser: bool, password_hash: str | None
) -> dict[str, Any]:
    return user._asdict() | {
        **service.key_columns(new.email),
        "signup_source": new.source or "unknown",
        "tier": new.tier or "free",
        "is_superuser": is_superuser,
        "password_hash": password_hash,
    }


@trace_function("user_service.save_user")
def _save_user(
    database: DatabaseManager,
    user: UserRow,
    values: dict[str, Any],
    in_transaction: InTransaction | None,
) -> None:
    message = outbox.new_message(USER_REGISTERED, {"user_id": str(user.id)})
    # Those who register themselves are nobody yet; and their way in costs nothing more.
    is_by_another = actor.get() != CALLER
    event = audit.new_event(Action.USER_CREATED, user.id) if is_by_another else None
    try:
        if in_transaction is None and not values["is_superuser"] and not database.is_sqlite:
            # One statement is one transaction, and one round trip.
            with database.prepared() as connection:
                queries.insert_user(connection, values, message, event)
        else:
            with database.transaction() as connection:
                if in_transaction is not None:
                    in_transaction(connection, user)
                queries.insert_user(connection, values, message, event)
                if values["is_superuser"]:
                    queries.set_verified(connection, user.id, values["mailbox_key"])
    except IntegrityError as error:
        raise service.conflict(error) from error


def _tell_success(user: UserRow, source: str) -> None:
    set_attributes(
        {
            "user.id": str(user.id),
            "user.status": user.status,
            "user.signup_source": source,
            **personal({"user.email": user.email}),
        }
    )
    _created.info(user_id=str(user.id), signup_source=source)


def _tell_failure(error: Exception) -> None:
    if isinstance(error, EmailTaken):
        set_attributes({"conflict.type": "duplicate_email"})
    elif not isinstance(error, AppError) or error.status >= AppError.status:
        # The traceback of an expected failure is in "Request failed", which follows.
        logger.error(
            "User creation failed",
            extra={"error_type": type(error.__cause__ or error).__name__},
            exc_info=not isinstance(error, AppError),
        )
