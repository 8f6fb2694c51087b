"""The users table."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import JSON, Index, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from chassis.storage.columns import Base

EMAIL_LENGTH = 254
NAME_LENGTH = 200
LABEL_LENGTH = 64
STAMP_LENGTH = 32  # hexadecimal digits
REASON_LENGTH = 200


# Columns that are NULL in the row of a new user, and so in no INSERT.
LATER = frozenset(
    {
        *("sessions_ended_at", "stamp", "verified_key", "pending_email", "password_changed_at"),
        *("suspended_at", "suspension_reason", "roles"),
    }
)


class Status(StrEnum):
    """The status of a user; nobody is SUSPENDED in the column, which the release before reads."""

    ACTIVE = "active"
    SUSPENDED = "suspended"
    DELETED = "deleted"


class User(Base):
    """A person or service with an address that is unique among live users."""

    __tablename__ = "users"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(String(EMAIL_LENGTH))
    # The key before `mailbox_key`; the release that knows only this one may run beside ours.
    email_key: Mapped[str] = mapped_column(Text)
    # None in rows of that release, unless a spelling of the address had another key there.
    mailbox_key: Mapped[str | None] = mapped_column(Text)
    name: Mapped[str] = mapped_column(String(NAME_LENGTH))
    status: Mapped[str] = mapped_column(String(16))
    signup_source: Mapped[str] = mapped_column(String(LABEL_LENGTH))
    tier: Mapped[str] = mapped_column(String(LABEL_LENGTH))
    is_superuser: Mapped[bool]
    password_hash: Mapped[str | None] = mapped_column(Text)
    version: Mapped[int]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    # When all log-ins of the user were ended, by the database's clock; ends tokens without `sid`.
    sessions_ended_at: Mapped[datetime | None]
    # Replaced with every change of password, address or suspension, which voids all links. None
    # until the first link is made; no link holds for such a row.
    stamp: Mapped[str | None] = mapped_column(String(STAMP_LENGTH))
    # The key of the address that its owner has confirmed. It counts while it is that of `email`,
    # which the release before may change without a look at this.
    verified_key: Mapped[str | None] = mapped_column(Text)
    # The address that shall be in force once it is confirmed; gone with the stamp.
    pending_email: Mapped[str | None] = mapped_column(String(EMAIL_LENGTH))
    password_changed_at: Mapped[datetime | None]
    suspended_at: Mapped[datetime | None]
    suspension_reason: Mapped[str | None] = mapped_column(String(REASON_LENGTH))
    roles: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True))

    __table_args__ = (
        # The service folds case, not SQL's lower(): databases disagree about letters beyond
        # ASCII, and the index must mean the same on each of them.
        Index(
            "uq_users_email_key",
            "email_key",
            unique=True,
            postgresql_where=text("status <> 'deleted'"),
            sqlite_where=text("status <> 'deleted'"),
        ),
        Index(
            "uq_users_mailbox_key",
            "mailbox_key",
            unique=True,
            postgresql_where=text("status <> 'deleted'"),
            sqlite_where=text("status <> 'deleted'"),
        ),
        # Finds the few suspended users for a list of them, as the next one does the deleted users.
        Index(
            "ix_users_suspended",
            "id",
            postgresql_where=text("suspended_at IS NOT NULL"),
            sqlite_where=text("suspended_at IS NOT NULL"),
        ),
        # Finds all superusers, whose rows are locked before one of them loses the rights.
        Index(
            "ix_users_superusers",
            "id",
            postgresql_where=text("is_superuser"),
            sqlite_where=text("is_superuser = 1"),
        ),
        # Finds the few deleted users, which wait for the purge, without reading live ones.
        Index(
            "ix_users_deleted",
            "id",
            postgresql_where=text("status = 'deleted'"),
            sqlite_where=text("status = 'deleted'"),
        ),
    )
