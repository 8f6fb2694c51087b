"""The document of a full export: a user with all columns."""

from __future__ import annotations

from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import AwareDatetime, ConfigDict, Field
from pydantic_core import to_json

from chassis.errors import InvalidRequest
from chassis.schemas import Schema
from userservice.users.models import (
    EMAIL_LENGTH,
    LABEL_LENGTH,
    NAME_LENGTH,
    REASON_LENGTH,
    STAMP_LENGTH,
)

# Another format has another number. A new column is a new format.
VERSION = 1

_NO_NUL = r"^[^\x00]*$"  # PostgreSQL takes none
Text = Annotated[str, Field(pattern=_NO_NUL)]
Stamp = Annotated[str, Field(pattern=_NO_NUL, max_length=STAMP_LENGTH)]
Address = Annotated[str, Field(pattern=_NO_NUL, max_length=EMAIL_LENGTH)]
Label = Annotated[str, Field(pattern=_NO_NUL, max_length=LABEL_LENGTH)]


class Header(Schema):
    """The first line of a full export."""

    format: Literal["users"]
    version: int
    users: int = Field(ge=0, description="Lines that follow.")

    @classmethod
    def read(cls, line: bytes) -> Self:
        """Read the first line of a file.

        Raises:
            InvalidRequest: it is no header, or one of a format that this release does not read.
        """
        try:
            header = cls.load(line)
        except InvalidRequest:
            raise InvalidRequest(
                "The file is no full export: its first line must be the header"
            ) from None
        if header.version != VERSION:
            age = "a newer" if header.version > VERSION else "an older"
            raise InvalidRequest(
                f"The file has {age} format, {header.version}: this release reads {VERSION}"
            )
        return header


class StoredUser(Schema):
    """A user with all columns of the table."""

    model_config = ConfigDict(extra="forbid")

    id: UUID
    email: Address
    email_key: Text
    mailbox_key: Text | None
    name: Annotated[str, Field(pattern=_NO_NUL, max_length=NAME_LENGTH)]
    status: Literal["active", "deleted"]
    signup_source: Label
    tier: Label
    is_superuser: bool
    password_hash: Text | None
    version: Annotated[int, Field(ge=1, lt=2**31)]
    created_at: AwareDatetime
    updated_at: AwareDatetime
    sessions_ended_at: AwareDatetime | None
    stamp: Stamp | None
    verified_key: Text | None
    pending_email: Address | None
    password_changed_at: AwareDatetime | None
    suspended_at: AwareDatetime | None
    suspension_reason: Annotated[str, Field(pattern=_NO_NUL, max_length=REASON_LENGTH)] | None
    roles: list[Text] | None


def as_line(document: Schema) -> bytes:
    """Return a document as a line of JSON."""
    return to_json(document) + b"\n"
