"""What may happen to jobs: rules and transactions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import Connection

from chassis.background import outbox
from chassis.storage.database import DatabaseManager
from userservice.jobs import queries
from userservice.jobs.errors import JobNotFound
from userservice.jobs.models import JobState
from userservice.jobs.queries import Age, JobRow
from userservice.jobs.rows import Refusal

IMPORT_STEP = "users.import"
# Refused lines that a job keeps, the first ones; a bad upload may have millions.
SHOWN_ERRORS = 1000
# At a time: with a job that was given up goes all that was uploaded for it, and a statement's time
# is limited.
PURGED_JOBS = 10
# Longer than any upload takes; one whose process died is of no use.
UPLOAD_PATIENCE = timedelta(days=1)


def enqueue_step(connection: Connection, job_id: UUID) -> None:
    """Have a worker do the next step of an import, once this transaction is committed."""
    connection.execute(outbox.INSERT, outbox.new_message(IMPORT_STEP, {"job_id": str(job_id)}))


def get_job(database: DatabaseManager, job_id: UUID) -> tuple[JobRow, Sequence[Refusal]]:
    """Return a job and its first refused lines.

    Raises:
        JobNotFound: there is none with this id.
    """
    with database.connection() as connection:
        return (
            _get_job(connection, job_id),
            queries.list_errors(connection, job_id, limit=SHOWN_ERRORS),
        )


def cancel_job(database: DatabaseManager, job_id: UUID) -> None:
    """Stop a job before its next step; what was imported stays. A job that is over stays so.

    Raises:
        JobNotFound: there is none with this id.
    """
    with database.transaction() as connection:
        _get_job(connection, job_id)
        queries.cancel_job(connection, job_id, now=datetime.now(UTC))


def fail_job(database: DatabaseManager, job_id: UUID, reason: str) -> None:
    """Give a job up whose step failed for too long; it goes on if its step is tried again."""
    with database.connection() as connection:
        queries.fail_job(connection, job_id, reason, now=datetime.now(UTC))


def count_old_jobs(database: DatabaseManager, *, before: datetime) -> int:
    """Count the jobs that are over since before a point in time, and uploads that broke off."""
    with database.connection() as connection:
        return queries.count_old(connection, _age(before))


def purge_old_jobs(database: DatabaseManager, *, before: datetime) -> Iterator[int]:
    """Remove what `count_old_jobs` counts; yield the size of each batch."""

    def purge_batch(connection: Connection, limit: int) -> int:
        return queries.purge_old(connection, _age(before), limit=limit)

    return database.purge(purge_batch, limit=PURGED_JOBS)


def _get_job(connection: Connection, job_id: UUID) -> JobRow:
    """Return a job; before its upload is whole there is none, for callers."""
    job = queries.find_job(connection, job_id)
    if job is None or job.state == JobState.UPLOADING:
        raise JobNotFound
    return job


def _age(over_before: datetime) -> Age:
    return Age(over_before, datetime.now(UTC) - UPLOAD_PATIENCE)
