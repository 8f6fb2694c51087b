"""The documents of a user's standing."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, SecretStr, field_validator

from chassis.schemas import Schema
from userservice.tokens.schemas import MAX_SECRET
from userservice.users.schemas import Reason

MAX_ROLES = 16
Role = Annotated[str, Field(pattern=r"^[a-z0-9_.:-]{1,64}$", examples=["billing:read"])]


class Suspension(Schema):
    """The reason of a suspension."""

    model_config = ConfigDict(extra="forbid")

    reason: Reason | None = Field(None, description="For administrators alone.")


class Promotion(Schema):
    """The proof that the superuser who calls is at the keyboard."""

    model_config = ConfigDict(extra="forbid")

    current_password: SecretStr = Field(
        max_length=MAX_SECRET, description="The password of the superuser who calls."
    )


class RoleList(Schema):
    """All roles of a user; here they grant nothing."""

    model_config = ConfigDict(extra="forbid")

    roles: list[Role] = Field(max_length=MAX_ROLES, json_schema_extra={"uniqueItems": True})

    @field_validator("roles")
    @classmethod
    def _refuse_twice(cls, value: list[str]) -> list[str]:
        if len(set(value)) < len(value):
            raise ValueError("must not name a role twice")
        return value


class AccountRead(Schema):
    """An account at a glance."""

    email_verified: bool
    pending_email: str | None
    has_password: bool
    password_changed_at: datetime | None
    standing: Literal["active", "suspended"]
    is_superuser: bool
    roles: list[str]
    sessions: int = Field(description="Log-ins that live.")


class AdministeredAccountRead(AccountRead):
    """The same for administrators."""

    suspension_reason: str | None = Field(None, description="For administrators alone.")
