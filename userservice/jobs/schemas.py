"""The documents of /jobs, and a line of an import."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, ConfigDict, Field, SecretStr, ValidationInfo, field_validator

from chassis import hashes
from chassis.schemas import Schema
from userservice.jobs.models import JobState, UploadFormat
from userservice.users.schemas import UserCreate


def _normalized(value: SecretStr) -> SecretStr:
    return SecretStr(hashes.normalize(value.get_secret_value()))


PasswordHash = Annotated[
    SecretStr, Field(max_length=hashes.MAX_LENGTH), AfterValidator(_normalized)
]


class UserLine(UserCreate):
    """A user in an upload: a new one that may come with what another service knew of it.

    The members that no user has are in `model_extra`.
    """

    model_config = ConfigDict(extra="allow")

    password_hash: PasswordHash | None = None
    email_verified: bool | None = None

    @field_validator("password_hash")
    @classmethod
    def _refuse_two(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if value is not None and info.data.get("password") is not None:
            raise ValueError("must not come with a password")
        return value


class JobLineError(Schema):
    """A line that was refused."""

    line: int
    pointer: str
    reason: str


class JobProgress(Schema):
    """How far a job has come."""

    done_bytes: int
    total_bytes: int


class JobRead(Schema):
    """A job, as callers see it."""

    id: UUID
    kind: str
    format: UploadFormat
    state: JobState
    reason: str | None = Field(description="Why the job failed.")
    progress: JobProgress
    created: int = Field(description="Users that were created.")
    failed: int = Field(description="Lines that were refused.")
    errors: list[JobLineError] = Field(description="The first thousand of them.")
    ignored: dict[str, int] = Field(
        description="Member that no user has -> the number of lines with it."
    )
    created_at: datetime
    updated_at: datetime


class ExportQuery(Schema):
    """How to write users down."""

    format: Literal["ndjson", "csv"] = Field("ndjson", description="A line is JSON, or CSV.")
