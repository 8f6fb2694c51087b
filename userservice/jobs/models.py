"""The tables of jobs, of the pieces of their uploads, and of refused lines."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import JSON, BigInteger, ForeignKey, LargeBinary, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from chassis.storage.columns import Base


class JobState(StrEnum):
    """The state of a job."""

    UPLOADING = "uploading"
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


OPEN = (JobState.QUEUED, JobState.RUNNING)
# A failed job goes on when its step is tried again, unless its upload is gone.
UNFINISHED = (*OPEN, JobState.FAILED)
FINAL = (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)
REASON_LENGTH = 300


class UploadFormat(StrEnum):
    """The format of a file of users."""

    NDJSON = "ndjson"
    CSV = "csv"


class Job(Base):
    """An import; its progress is stored together with its results."""

    __tablename__ = "jobs"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(32))
    format: Mapped[str] = mapped_column(String(16))
    state: Mapped[str] = mapped_column(String(16))
    total_bytes: Mapped[int] = mapped_column(BigInteger)
    done_bytes: Mapped[int] = mapped_column(BigInteger)
    line: Mapped[int]
    created: Mapped[int]
    failed: Mapped[int]
    header: Mapped[str | None] = mapped_column(Text)
    reason: Mapped[str | None] = mapped_column(String(REASON_LENGTH))
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    # Member that no user has -> number of lines with it; None for none, and in older rows.
    ignored: Mapped[dict[str, int] | None] = mapped_column(JSON(none_as_null=True))


class JobChunk(Base):
    """A piece of an upload; any worker of any machine can read it."""

    __tablename__ = "job_chunks"

    job_id: Mapped[UUID] = mapped_column(
        ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True
    )
    start: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    data: Mapped[bytes] = mapped_column(LargeBinary)


class JobError(Base):
    """A line that was refused, and why."""

    __tablename__ = "job_errors"

    job_id: Mapped[UUID] = mapped_column(
        ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True
    )
    line: Mapped[int] = mapped_column(primary_key=True)
    pointer: Mapped[str] = mapped_column(String(200))
    reason: Mapped[str] = mapped_column(String(REASON_LENGTH))
