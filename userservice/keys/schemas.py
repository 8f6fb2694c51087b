"""The documents of /api-keys."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
)

from chassis.schemas import Page, PageQuery, Schema, Time
from userservice.keys.models import NAME_LENGTH
from userservice.scopes import Scope
from userservice.tokens.schemas import MAX_SECRET
from userservice.users.schemas import VISIBLE, present, visible_name

KeyStatus = Literal["active", "expired", "revoked"]


def _scopes(value: list[str]) -> list[str]:
    if not value:
        raise ValueError("must name one at least")
    if not set(value) <= set(Scope):
        raise ValueError(f"must be of {', '.join(Scope)}")
    if len(set(value)) < len(value):
        raise ValueError("must not name a scope twice")
    return sorted(value)


def _hexadecimal(value: Any) -> Any:
    return value.hex if isinstance(value, UUID) else value


KeyName = Annotated[
    str,
    visible_name(NAME_LENGTH),
    BeforeValidator(present),
    Field(
        json_schema_extra={"minLength": 1, "maxLength": NAME_LENGTH, "pattern": VISIBLE},
        examples=["billing"],
    ),
]
Scopes = Annotated[
    list[str],
    AfterValidator(_scopes),
    Field(
        json_schema_extra={
            "minItems": 1,
            "items": {"type": "string", "enum": [*Scope]},
            "uniqueItems": True,
        },
        examples=[[Scope.USERS_READ.value]],
    ),
]
KeyId = Annotated[str, BeforeValidator(_hexadecimal), Field(pattern="^[0-9a-f]{32}$")]


class KeyCreate(Schema):
    """The input for a new API key."""

    # A misspelt expires_at would make a key that never ends.
    model_config = ConfigDict(extra="forbid")

    name: KeyName = Field(description="For people: the service that gets the key.")
    scopes: Scopes
    expires_at: Time | None = Field(None, description="Absent: the key never expires.")
    current_password: SecretStr | None = Field(
        None,
        max_length=MAX_SECRET,
        description="The password of the superuser who calls; of no use to services.",
    )


class KeyRead(Schema):
    """An API key, without the key itself."""

    id: KeyId = Field(description="The part of the key between its two underscores.")
    name: str
    status: KeyStatus
    scopes: list[str]
    created_at: datetime
    created_by: str | None = Field(
        description="The id of the user or of the API key that made it; null: an operator did."
    )
    expires_at: datetime | None
    revoked_at: datetime | None


class KeyCreated(KeyRead):
    """An API key that was made just now."""

    key: str = Field(description="The key, for X-API-Key. It is shown only here.")


class KeyPage(Page[KeyRead]):
    """A page of API keys in the order in which they were made."""


class KeyQuery(PageQuery):
    """The API keys to list."""

    status: KeyStatus | None = Field(None, description="Absent: all that were ever made.")
