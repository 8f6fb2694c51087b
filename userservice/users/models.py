"""The users table."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import Index, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from chassis.storage.columns import Base

EMAIL_LENGTH = 254
NAME_LENGTH = 200
LABEL_LENGTH = 64


# Columns that are NULL in the row of a new user, and so in no INSERT.
LATER = frozenset({"sessions_ended_at"})


class Status(StrEnum):
    """The status of a user."""

    ACTIVE = "active"
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
        # Finds the few deleted users, which wait for the purge, without reading live ones.
        Index(
            "ix_users_deleted",
            "id",
            postgresql_where=text("status = 'deleted'"),
            sqlite_where=text("status = 'deleted'"),
        ),
    )
