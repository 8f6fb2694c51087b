"""Importing and exporting users: rules and transactions."""

from __future__ import annotations

import csv
import io
import logging
import time
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from pydantic_core import to_json, to_jsonable_python
from sqlalchemy import Connection

from chassis.background import outbox
from chassis.backing_services import BackingServices
from chassis.storage.database import DatabaseManager, uuid7
from chassis.telemetry.instruments import count_import, count_user_created
from userservice.jobs import queries
from userservice.jobs.errors import JobNotFound
from userservice.jobs.models import OPEN, UNFINISHED, JobState, UploadFormat
from userservice.jobs.queries import Age, JobRow
from userservice.jobs.rows import Batch, Piece, Refusal, escape, parse
from userservice.users import transfer
from userservice.users.transfer import EXPORTED

logger = logging.getLogger(__name__)

IMPORT_STEP = "users.import"
CHUNK_BYTES = 256 * 1024
# Far below OUTBOX_LEASE_SECONDS, and long enough that what a message costs does not matter.
STEP_SECONDS = 2.0
# Refused lines that a job keeps, the first ones; a bad upload may have millions.
SHOWN_ERRORS = 1000
# At a time: with a job that was given up goes all that was uploaded for it, and a statement's time
# is limited.
PURGED_JOBS = 10
# Longer than any upload takes; one whose process died is of no use.
UPLOAD_PATIENCE = timedelta(days=1)


def start_import(
    database: DatabaseManager, upload_format: UploadFormat, pieces: Iterable[bytes]
) -> JobRow:
    """Store an upload as it arrives, and queue the job that imports it.

    An upload that breaks off leaves nothing behind; nothing is imported before all is here.
    """
    now = datetime.now(UTC)
    job = JobRow(
        uuid7(), "import", upload_format, JobState.UPLOADING, 0, 0, 1, 0, 0, None, None, now, now
    )
    with database.connection() as connection:
        queries.insert_job(connection, job)
    try:
        total = _store(database, job.id, pieces)
    except BaseException:
        with database.connection() as connection:
            queries.delete_job(connection, job.id)
        raise
    with database.transaction() as connection:
        queries.update_job(connection, job.id, state=JobState.QUEUED, total_bytes=total)
        _enqueue_step(connection, job.id)
    logger.info("Import queued", extra={"job_id": str(job.id), "bytes": total})
    return job._replace(state=JobState.QUEUED, total_bytes=total)


def run_import_step(services: BackingServices, job_id: UUID, *, seconds: float = 0.0) -> bool:
    """Import the next pieces of an upload; False when there was nothing left to do.

    The users of a piece, its refused lines and the progress are one transaction, and with the
    last piece so is the message for the next step: whoever dies half-way leaves the piece to be
    done again, from its beginning.

    Args:
        services: What to work with.
        job_id: Which import.
        seconds: After this no further piece is begun; one always is.
    """
    deadline = time.monotonic() + seconds
    with services.database.connection() as connection:
        job = queries.find_job(connection, job_id)
    if job is None or job.state not in UNFINISHED:
        return False
    parsing = _begin_piece(services, job)
    has_stored, are_likely_free = False, True
    while parsing is not None:
        batch = parsing.result()
        ahead = _progress(job, batch)
        is_last = ahead.state not in OPEN or time.monotonic() >= deadline
        # The next piece is read while this one is stored.
        parsing = None if is_last else _begin_piece(services, ahead)
        stored = _store_piece(
            services.database, job, batch, is_last=is_last, are_likely_free=are_likely_free
        )
        if stored is None:
            return has_stored
        # Taken addresses come together: a file that was imported before, a second half of it.
        are_likely_free = stored.failed - job.failed == len(batch.refusals)
        job, has_stored = stored, True
    return has_stored


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


def export_users(
    database: DatabaseManager, upload_format: UploadFormat
) -> Generator[bytes, None, None]:
    """Yield all live users as of one moment, in pieces of bounded size.

    Raises:
        Unavailable: as for `DatabaseManager.snapshot`, before the first piece or at any other.
    """
    is_csv = upload_format is UploadFormat.CSV
    render = _render_csv if is_csv else _render_ndjson
    header = (",".join(EXPORTED) + "\r\n").encode() if is_csv else b""
    for page in transfer.stream_users(database):
        yield header + render(page)
        header = b""
    if header:
        yield header


def _get_job(connection: Connection, job_id: UUID) -> JobRow:
    """Return a job; before its upload is whole there is none, for callers."""
    job = queries.find_job(connection, job_id)
    if job is None or job.state == JobState.UPLOADING:
        raise JobNotFound
    return job


def _age(over_before: datetime) -> Age:
    return Age(over_before, datetime.now(UTC) - UPLOAD_PATIENCE)


def _render_ndjson(page: Sequence[Sequence[Any]]) -> bytes:
    return b"".join(to_json(dict(zip(EXPORTED, user, strict=True))) + b"\n" for user in page)


def _render_csv(page: Sequence[Sequence[Any]]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    for user in page:
        writer.writerow([escape(value) for value in to_jsonable_python(tuple(user))])
    return text.getvalue().encode()


def _store(database: DatabaseManager, job_id: UUID, pieces: Iterable[bytes]) -> int:
    total = 0
    for data in _in_chunks(pieces):
        with database.connection() as connection:
            queries.insert_chunk(connection, job_id, total, data)
        total += len(data)
    return total


def _in_chunks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    waiting = b""
    for piece in pieces:
        waiting += piece
        while len(waiting) >= CHUNK_BYTES:
            yield waiting[:CHUNK_BYTES]
            waiting = waiting[CHUNK_BYTES:]
    if waiting:
        yield waiting


def _begin_piece(services: BackingServices, job: JobRow) -> Future[Batch] | None:
    """Read on where a job is, in another process: it would hold up this one.

    None when the upload is gone.
    """
    with services.database.connection() as connection:
        data = queries.read_chunks(connection, job.id, job.done_bytes, CHUNK_BYTES)
    if job.total_bytes and not data:
        return None
    is_last = job.done_bytes + len(data) >= job.total_bytes
    piece = Piece(data, UploadFormat(job.format), job.line, job.header, is_last)
    return services.tasks.submit_cpu_task(parse, piece, services.hasher.parameters)


def _progress(job: JobRow, batch: Batch) -> JobRow:
    """Return how far a job will have come with a batch."""
    done = job.done_bytes + batch.consumed
    state, reason = JobState.RUNNING, None
    if batch.is_hopeless:
        state, reason = JobState.FAILED, batch.refusals[0].reason
    elif done >= job.total_bytes:
        state = JobState.SUCCEEDED
    return job._replace(
        state=state,
        reason=reason,
        done_bytes=done,
        line=batch.next_line,
        header=batch.header,
    )


def _store_piece(
    database: DatabaseManager, job: JobRow, batch: Batch, *, is_last: bool, are_likely_free: bool
) -> JobRow | None:
    """Store a batch and how far the job comes by it; None when another worker has, or it is over.

    `is_last` says that the step ends, and the job goes on with a message.
    """
    ahead = _progress(job, batch)
    with database.transaction() as connection:
        if not queries.lock_step(connection, job, now=datetime.now(UTC)):
            return None
        created = transfer.import_users(connection, batch.users, are_likely_free=are_likely_free)
        refusals = sorted([*batch.refusals, *_taken(batch, created)])
        shown = refusals[: max(0, SHOWN_ERRORS - job.failed)]
        queries.insert_errors(connection, job.id, shown)
        if ahead.state not in OPEN:
            queries.delete_chunks(connection, job.id)
        elif is_last:
            _enqueue_step(connection, job.id)
        stored = ahead._replace(
            created=job.created + len(created), failed=job.failed + len(refusals)
        )
        queries.update_progress(connection, stored)
    for tier, number in Counter(created.values()).items():
        count_user_created("import", tier, number)
    count_import(created=len(created), refused=len(refusals))
    if stored.state not in OPEN:
        outcome = {"state": stored.state, "users": stored.created, "refused": stored.failed}
        logger.info("Import ended", extra={"job_id": str(job.id), **outcome})
    return stored


def _taken(batch: Batch, created: Iterable[str]) -> list[Refusal]:
    """Return the lines whose address is taken, by a user or by a line before."""
    free = set(created)
    refusals = []
    for line, key in zip(batch.lines, batch.users.email_key, strict=True):
        if key in free:
            free.remove(key)
        else:
            refusals.append(Refusal(line, "/email", "User already exists"))
    return refusals


def _enqueue_step(connection: Connection, job_id: UUID) -> None:
    connection.execute(outbox.INSERT, outbox.new_message(IMPORT_STEP, {"job_id": str(job_id)}))
