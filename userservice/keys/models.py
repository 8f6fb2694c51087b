"""The api_keys table."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import JSON, String
from sqlalchemy.orm import Mapped, mapped_column

from chassis.storage.columns import Base

NAME_LENGTH = 100


class ApiKey(Base):
    """A key, of which only the fingerprint is stored."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)  # hexadecimal digits
    name: Mapped[str] = mapped_column(String(NAME_LENGTH))
    key_hash: Mapped[str] = mapped_column(String(64))
    scopes: Mapped[list[str]] = mapped_column(JSON)
    created_at: Mapped[datetime]
    # The id of the user or of the key that made it; None: an operator did.
    created_by: Mapped[str | None] = mapped_column(String(36))
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
