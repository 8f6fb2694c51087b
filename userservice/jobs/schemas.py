"""The documents of /jobs."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import Field

from chassis.schemas import Schema
from userservice.jobs.models import JobState, UploadFormat


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
    created_at: datetime
    updated_at: datetime


class ExportQuery(Schema):
    """How to write users down."""

    format: Literal["ndjson", "csv"] = Field("ndjson", description="A line is JSON, or CSV.")
