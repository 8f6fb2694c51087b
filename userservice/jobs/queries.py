"""SQL about jobs; the caller owns the connection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Connection,
    Table,
    and_,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)

from chassis.storage.clock import database_time
from userservice.jobs.models import FINAL, OPEN, UNFINISHED, Job, JobChunk, JobError, JobState
from userservice.jobs.rows import Refusal


class JobRow(NamedTuple):
    """A job and its progress."""

    id: UUID
    kind: str
    format: str
    state: str
    total_bytes: int
    done_bytes: int
    line: int
    created: int
    failed: int
    header: str | None
    reason: str | None
    created_at: datetime
    updated_at: datetime
    ignored: Mapping[str, int] | None = None


jobs: Table = Job.__table__  # type: ignore[assignment]  # Tables, declared wider
chunks: Table = JobChunk.__table__  # type: ignore[assignment]
errors: Table = JobError.__table__  # type: ignore[assignment]
_COLUMNS = tuple(jobs.c[name] for name in JobRow._fields)


def insert_job(connection: Connection, job_id: UUID, kind: str, upload_format: str) -> JobRow:
    """Store a new job, whose upload is still to come."""
    begun = {"state": JobState.UPLOADING, "line": 1}
    counts = dict.fromkeys(("total_bytes", "done_bytes", "created", "failed"), 0)
    times = {"created_at": database_time(), "updated_at": database_time()}
    values = {"id": job_id, "kind": kind, "format": upload_format, **begun, **counts, **times}
    return JobRow(*connection.execute(insert(jobs).values(values).returning(*_COLUMNS)).one())


def find_job(connection: Connection, job_id: UUID) -> JobRow | None:
    """Return a job."""
    row = connection.execute(select(*_COLUMNS).where(jobs.c.id == job_id)).first()
    return JobRow(*row) if row is not None else None


def list_jobs(connection: Connection, state: JobState | None, *, limit: int) -> Sequence[JobRow]:
    """Return jobs, of one state or of all, newest first."""
    statement = select(*_COLUMNS).order_by(jobs.c.id.desc()).limit(limit)
    if state is not None:
        statement = statement.where(jobs.c.state == state)
    return [JobRow(*row) for row in connection.execute(statement)]


def lock_step(connection: Connection, job: JobRow) -> bool:
    """Claim a job's next step for this transaction; return False if it is taken or the job over."""
    statement = (
        update(jobs)
        .where(jobs.c.id == job.id, jobs.c.state.in_(UNFINISHED))
        .where(jobs.c.done_bytes == job.done_bytes)
        .values(updated_at=database_time())
    )
    return connection.execute(statement).rowcount == 1


def update_job(connection: Connection, job_id: UUID, **values: Any) -> None:
    """Change columns of a job."""
    connection.execute(update(jobs).where(jobs.c.id == job_id).values(**values))


def update_progress(connection: Connection, job: JobRow) -> None:
    """Store the progress of a job."""
    moving = ("state", "done_bytes", "line", "header", "created", "failed", "reason", "ignored")
    values = {name: value for name, value in job._asdict().items() if name in moving}
    update_job(connection, job.id, **values)


def fail_job(connection: Connection, job_id: UUID, reason: str) -> None:
    """Mark a job that is not over as failed; its upload stays."""
    statement = update(jobs).where(jobs.c.id == job_id, jobs.c.state.in_(OPEN))
    failed = {"state": JobState.FAILED, "reason": reason}
    connection.execute(statement.values(**failed, updated_at=database_time()))


def cancel_job(connection: Connection, job_id: UUID) -> bool:
    """End a job that is open, or has failed and could go on; remove its upload.

    Returns False if it was over, and is as before.
    """
    # Locked before it is judged: a statement that waits for the row sees the upload as it was when
    # the statement began, also of a job that has ended meanwhile.
    lock = select(jobs.c.id).where(jobs.c.id == job_id)
    connection.execute(lock.with_for_update(key_share=True))
    could_go_on = or_(jobs.c.state.in_(OPEN), exists().where(chunks.c.job_id == jobs.c.id))
    statement = update(jobs).where(jobs.c.id == job_id, could_go_on)
    cancelled = statement.values(state=JobState.CANCELLED, updated_at=database_time())
    was_open = connection.execute(cancelled).rowcount == 1
    delete_chunks(connection, job_id)
    return was_open


def insert_chunk(connection: Connection, job_id: UUID, start: int, data: bytes) -> None:
    """Store a piece of an upload."""
    connection.execute(insert(chunks), {"job_id": job_id, "start": start, "data": data})


def read_chunks(connection: Connection, job_id: UUID, start: int, length: int) -> bytes:
    """Return at most `length` bytes of an upload, from `start` on."""
    statement = (
        select(chunks.c.start, chunks.c.data)
        .where(chunks.c.job_id == job_id, chunks.c.start < start + length)
        .where(chunks.c.start + func.length(chunks.c.data) > start)
        .order_by(chunks.c.start)
    )
    found = b""
    for chunk_start, data in connection.execute(statement):
        found += bytes(data)[max(0, start - chunk_start) :]
    return found[:length]


def delete_chunks(connection: Connection, job_id: UUID) -> None:
    """Remove an upload."""
    connection.execute(delete(chunks).where(chunks.c.job_id == job_id))


def delete_job(connection: Connection, job_id: UUID) -> None:
    """Remove a job, its upload and its refusals."""
    connection.execute(delete(jobs).where(jobs.c.id == job_id))


def insert_errors(connection: Connection, job_id: UUID, refusals: Sequence[Refusal]) -> None:
    """Store refusals of lines."""
    if refusals:
        rows = [refusal._asdict() | {"job_id": job_id} for refusal in refusals]
        connection.execute(insert(errors), rows)


def list_errors(connection: Connection, job_id: UUID, *, limit: int) -> Sequence[Refusal]:
    """Return the first refused lines."""
    statement = (
        select(errors.c.line, errors.c.pointer, errors.c.reason)
        .where(errors.c.job_id == job_id)
        .order_by(errors.c.line)
        .limit(limit)
    )
    return [Refusal(*row) for row in connection.execute(statement)]


class Age(NamedTuple):
    """The age from which on jobs are old."""

    over_before: datetime
    """For jobs that are over."""
    upload_patience: timedelta
    """For uploads that never became whole."""


def count_old(connection: Connection, age: Age) -> int:
    """Count the jobs that are no longer needed."""
    return connection.execute(select(func.count()).where(_is_old(age))).scalar_one()


def purge_old(connection: Connection, age: Age, *, limit: int) -> int:
    """Remove at most `limit` jobs that are no longer needed; say how many."""
    batch = select(jobs.c.id).where(_is_old(age)).limit(limit)
    return connection.execute(delete(jobs).where(jobs.c.id.in_(batch))).rowcount


def _is_old(age: Age) -> ColumnElement[bool]:
    begun_before = database_time(-age.upload_patience)
    return or_(
        and_(jobs.c.state.in_(FINAL), jobs.c.updated_at < age.over_before),
        and_(jobs.c.state == JobState.UPLOADING, jobs.c.updated_at < begun_before),
    )
