"""The documents of /users; one definition validates, renders and documents."""

from __future__ import annotations

import re
import unicodedata
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

from chassis.passwords import MAX_LENGTH, MIN_LENGTH, is_guessable
from chassis.schemas import Page, PageQuery, PageSize, Schema
from chassis.security import composed
from userservice import SERVICE_WORDS
from userservice.users import addresses
from userservice.users.models import EMAIL_LENGTH, LABEL_LENGTH, NAME_LENGTH, REASON_LENGTH, Status

# Control characters and line separators break a line in a log or a mail. Marks of direction and
# letters without width hide text, or show it in another order than it has.
_CONTROLS = (
    "\x00-\x1f\x7f-\x9f\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
)
# Nothing is seen of these alone; between others some of them join or choose letters.
_INVISIBLE = (
    "\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200c\u200d\u2800\u3164\ufe00-\ufe0f\uffa0"
    "\U000e0000-\U000e0fff"
)
_PRINTABLE = re.compile(f"[^{_CONTROLS}]*")
VISIBLE = rf"^[^{_CONTROLS}]*[^\s{_CONTROLS}{_INVISIBLE}][^{_CONTROLS}]*$"
_SEEN = re.compile(rf"[^\s{_INVISIBLE}]")


def present(value: object) -> object:
    """Refuse a text that is blank as one that is missing."""
    if value is None or (isinstance(value, str) and not value.strip()):
        raise PydanticCustomError("missing", "is required")
    return value


def visible_name(length: int) -> AfterValidator:
    """Return the rules of a name that people read, of at most so many characters."""

    def check(value: str) -> str:
        value = unicodedata.normalize("NFC", value.strip())
        if not _PRINTABLE.fullmatch(value):
            raise ValueError("must not contain control characters")
        _require_seen(value)
        if len(value) > length:
            raise ValueError(f"must have at most {length} characters")
        return value

    return AfterValidator(check)


def _label(value: str) -> str:
    if not _PRINTABLE.fullmatch(value):
        raise ValueError("must not contain control characters")
    return value


def _reason(value: str) -> str:
    _require_seen(value)
    return _label(value)


def _require_seen(value: str) -> None:
    if not _SEEN.search(value):
        raise ValueError("must have a letter that can be seen")


def _typed(value: object) -> object:
    """Return a password in the form in which it is hashed, so that its length is that of it."""
    return composed(value) if isinstance(value, str) else value


def _no_defaults(schema: dict[str, Any]) -> None:
    for member in schema["properties"].values():
        del member["default"]  # it only says that the member may be absent


Email = Annotated[
    str,
    AfterValidator(addresses.normalize),
    BeforeValidator(present),
    Field(
        json_schema_extra={"format": "email", "maxLength": EMAIL_LENGTH},
        examples=["ada@example.com"],
    ),
]
Name = Annotated[
    str,
    visible_name(NAME_LENGTH),
    BeforeValidator(present),
    Field(
        json_schema_extra={"minLength": 1, "maxLength": NAME_LENGTH, "pattern": VISIBLE},
        examples=["Ada Lovelace"],
    ),
]
Label = Annotated[
    str,
    AfterValidator(_label),
    Field(
        min_length=1, max_length=LABEL_LENGTH, json_schema_extra={"pattern": f"^[^{_CONTROLS}]*$"}
    ),
]
Reason = Annotated[
    str,
    AfterValidator(_reason),
    Field(min_length=1, max_length=REASON_LENGTH, json_schema_extra={"pattern": VISIBLE}),
]
Password = Annotated[
    SecretStr, BeforeValidator(_typed), Field(min_length=MIN_LENGTH, max_length=MAX_LENGTH)
]


class UserCreate(Schema):
    """The input for a new user."""

    email: Email
    name: Name
    password: Password | None = None
    source: Label | None = Field(None, description="Where the user signed up, such as web.")
    tier: Label | None = Field(None, description="The plan, such as free.")

    @field_validator("password")
    @classmethod
    def _refuse_guessable(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        context = (info.data.get("email", ""), info.data.get("name", ""))
        if value is None:
            return None
        if is_guessable(value.get_secret_value(), *context, names=SERVICE_WORDS):
            raise ValueError("is too easy to guess")
        return value


class UserUpdate(Schema):
    """A JSON merge patch (RFC 7396): absent members stay as they are."""

    model_config = ConfigDict(extra="forbid", json_schema_extra=_no_defaults)

    email: Email = ""
    name: Name = ""


class UserRead(Schema):
    """A user as callers see it."""

    id: UUID
    email: str = Field(json_schema_extra={"format": "email"})
    name: str
    created_at: datetime
    status: Status


class UserPage(Page[UserRead]):
    """A page of users in the order of their ids, which is that of their registration."""


class UserQuery(PageQuery):
    """Which users to list."""

    page_size: PageSize = Field(50, description="Users on a page.")
    status: Literal["active", "suspended", "deleted"] | None = Field(
        None, description="Default: the living, suspended or not."
    )
    email: str | None = Field(
        None,
        max_length=EMAIL_LENGTH,
        pattern=r"^[^\x00]*$",  # PostgreSQL takes no NUL
        description="Address, in any spelling.",
    )
