"""Rules and transactions for jobs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Connection

from chassis.background import outbox
from chassis.storage import audit
from chassis.storage.database import DatabaseManager
from userservice.actions import Action
from userservice.jobs import queries
from userservice.jobs.errors import JobNotFound
from userservice.jobs.models import JobState
from userservice.jobs.queries import Age, JobRow
from userservice.jobs.rows import Refusal

IMPORT_STEP = "users.import"
# A job keeps only its first refused lines, because a bad upload may have millions.
SHOWN_ERRORS = 1000
# Jobs to remove in one statement. The upload of a failed job goes with it, and a statement's time
# is limited.
PURGED_JOBS = 10
# Longer than any upload takes. An older unfinished upload lost its process, and is removed.
UPLOAD_PATIENCE = timedelta(days=1)


def enqueue_step(connection: Connection, job_id: UUID) -> None:
    """Have a worker do the next step of an import, once this transaction is committed."""
    connection.execute(outbox.INSERT, outbox.new_message(IMPORT_STEP, {"job_id": str(job_id)}))


def get_job(database: DatabaseManager, job_id: UUID) -> tuple[JobRow, Sequence[Refusal]]:
    """Return a job and its first refused lines.

    Raises:
        JobNotFound: there is no job with this id.
    """
    with database.connection() as connection:
        return (
            _get_job(connection, job_id),
            queries.list_errors(connection, job_id, limit=SHOWN_ERRORS),
        )


def list_jobs(
    database: DatabaseManager, state: JobState | None = None, *, limit: int
) -> Sequence[JobRow]:
    """Return jobs, newest first, those included whose upload is not whole."""
    with database.connection() as connection:
        return queries.list_jobs(connection, state, limit=limit)


def cancel_job(database: DatabaseManager, job_id: UUID) -> None:
    """Stop a job before its next step; imported users stay. An ended job stays as it is.

    Raises:
        JobNotFound: there is no job with this id.
    """
    with database.transaction() as connection:
        _get_job(connection, job_id)
        if queries.cancel_job(connection, job_id):
            audit.record(connection, Action.IMPORT_CANCELLED, job_id)


def fail_job(database: DatabaseManager, job_id: UUID, reason: str) -> None:
    """Mark a job whose step failed for too long as failed; it goes on if the step is retried."""
    with database.connection() as connection:
        queries.fail_job(connection, job_id, reason)


def count_old_jobs(database: DatabaseManager, *, before: datetime) -> int:
    """Count the jobs that ended before a point in time, and old unfinished uploads."""
    with database.connection() as connection:
        return queries.count_old(connection, Age(before, UPLOAD_PATIENCE))


def purge_old_jobs(database: DatabaseManager, *, before: datetime) -> Iterator[int]:
    """Remove the jobs that `count_old_jobs` counts; yield the size of each batch."""

    def purge_batch(connection: Connection, limit: int) -> int:
        return queries.purge_old(connection, Age(before, UPLOAD_PATIENCE), limit=limit)

    return database.purge(purge_batch, limit=PURGED_JOBS)


def _get_job(connection: Connection, job_id: UUID) -> JobRow:
    """Return a job. A job whose upload is not whole does not exist for callers."""
    job = queries.find_job(connection, job_id)
    if job is None or job.state == JobState.UPLOADING:
        raise JobNotFound
    return job
