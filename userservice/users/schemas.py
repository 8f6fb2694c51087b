"""The documents of /users; one definition validates, renders and documents."""

from __future__ import annotations

import re
import unicodedata
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Any, Literal
from uuid import UUID

import email_validator
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
from userservice import SERVICE_WORDS
from userservice.users.models import EMAIL_LENGTH, LABEL_LENGTH, NAME_LENGTH, Status

# Control characters and line separators: they hide text, or break a line in a log or a mail.
_CONTROLS = "\x00-\x1f\x7f-\x9f\u2028\u2029"
_PRINTABLE = re.compile(f"[^{_CONTROLS}]*")
# The form of most local parts. With such a local part, only the domain decides about an address.
_PLAIN_LOCAL_PART = re.compile(r"[a-zA-Z0-9_+-]+(?:\.[a-zA-Z0-9_+-]+)*")
_LOCAL_LENGTH = 64
_VISIBLE = rf"^[^{_CONTROLS}]*[^\s{_CONTROLS}][^{_CONTROLS}]*$"


def _present(value: object) -> object:
    if value is None or (isinstance(value, str) and not value.strip()):
        raise PydanticCustomError("missing", "is required")
    return value


def _email(value: str) -> str:
    value = value.strip()
    if not (_is_plain(value) or _is_email(value)):
        # The validator's own text repeats parts of the address.
        raise ValueError("must be a valid e-mail address")
    return value


def _is_plain(value: str) -> bool:
    """Tell whether a plain address has a good domain; False means that it may still be valid."""
    local_part, _, domain = value.partition("@")
    return (
        len(local_part) <= _LOCAL_LENGTH
        and len(domain) <= EMAIL_LENGTH
        and _PLAIN_LOCAL_PART.fullmatch(local_part) is not None
        and _is_good_domain(domain)
    )


# Users share domains, and the check of a domain is most of the work.
@lru_cache(maxsize=1024)
def _is_good_domain(domain: str) -> bool:
    """Tell whether any plain local part makes an address with this domain."""
    return _is_email("x" * _LOCAL_LENGTH + "@" + domain)


def _is_email(value: str) -> bool:
    try:
        email_validator.validate_email(value, check_deliverability=False)
    except email_validator.EmailNotValidError:
        return False
    return True


def _name(value: str) -> str:
    value = unicodedata.normalize("NFC", value.strip())
    if not _PRINTABLE.fullmatch(value):
        raise ValueError("must not contain control characters")
    if len(value) > NAME_LENGTH:
        raise ValueError(f"must have at most {NAME_LENGTH} characters")
    return value


def _label(value: str) -> str:
    if not _PRINTABLE.fullmatch(value):
        raise ValueError("must not contain control characters")
    return value


def _no_defaults(schema: dict[str, Any]) -> None:
    for member in schema["properties"].values():
        del member["default"]  # it only says that the member may be absent


Email = Annotated[
    str,
    AfterValidator(_email),
    BeforeValidator(_present),
    Field(
        json_schema_extra={"format": "email", "maxLength": EMAIL_LENGTH},
        examples=["ada@example.com"],
    ),
]
Name = Annotated[
    str,
    AfterValidator(_name),
    BeforeValidator(_present),
    Field(
        json_schema_extra={"minLength": 1, "maxLength": NAME_LENGTH, "pattern": _VISIBLE},
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
Password = Annotated[SecretStr, Field(min_length=MIN_LENGTH, max_length=MAX_LENGTH)]


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
    status: Literal["active", "deleted"] | None = Field(None, description="Default: the living.")
    email: str | None = Field(
        None,
        max_length=EMAIL_LENGTH,
        pattern=r"^[^\x00]*$",  # PostgreSQL takes no NUL
        description="Address, in any case.",
    )
