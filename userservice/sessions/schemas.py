"""The documents of /users/{id}/sessions."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import ConfigDict, Field

from chassis.schemas import Schema
from userservice.logins.labels import LABELS


class SessionRead(Schema):
    """A log-in that lives."""

    id: UUID = Field(description="The claim sid of its access tokens.")
    created_at: datetime | None = Field(description="When the user logged in, if that is known.")
    refreshed_at: datetime | None = Field(description="When it was last renewed.")
    expires_at: datetime = Field(description="When it ends, unless it is renewed before.")
    label: str | None = Field(
        description="Browser and system at the log-in, if both are known.",
        json_schema_extra={"enum": [*sorted(LABELS), None]},
    )
    current: bool = Field(description="Whether it is the caller's own.")


class SessionList(Schema):
    """The newest sessions of a user, the newest first."""

    items: list[SessionRead]


class EndQuery(Schema):
    """Which sessions to end."""

    model_config = ConfigDict(extra="forbid")  # a misspelt keep would end all

    keep: Literal["current"] | None = Field(
        None, description="current: the caller's own goes on. Absent: all end."
    )
