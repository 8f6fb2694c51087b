"""The refresh tokens table."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, Index, String, text
from sqlalchemy.orm import Mapped, mapped_column

from chassis.storage.columns import Base
from userservice.logins.labels import LABEL_LENGTH

_UNSPENT = text("spent_at IS NULL")


class RefreshToken(Base):
    """A token in a chain of tokens; all tokens that stem from one log-in are a family.

    The family's id is the id of the log-in, which access tokens carry as `sid`. Spent tokens stay
    until they expire, because a spent token that is used again was stolen.
    """

    __tablename__ = "refresh_tokens"

    token_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    family_id: Mapped[UUID] = mapped_column(index=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    expires_at: Mapped[datetime] = mapped_column(index=True)
    spent_at: Mapped[datetime | None]
    # The release before writes none of these.
    refreshed_at: Mapped[datetime | None]  # when the token before was spent; the first has none
    label: Mapped[str | None] = mapped_column(String(LABEL_LENGTH))  # the same in a whole family
    salt: Mapped[str | None] = mapped_column(String(32))  # of a spent token; see ADR 38

    __table_args__ = (
        # A family lives while it has its one unspent token, and is found by it among spent ones.
        Index(
            "uq_refresh_tokens_family_id",
            "family_id",
            unique=True,
            postgresql_where=_UNSPENT,
            sqlite_where=_UNSPENT,
        ),
        # Finds the living families of a user, in the order of their log-ins.
        Index(
            "ix_refresh_tokens_unspent",
            "user_id",
            "family_id",
            postgresql_where=_UNSPENT,
            sqlite_where=_UNSPENT,
        ),
    )
