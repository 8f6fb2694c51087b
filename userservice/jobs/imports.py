"""Steps of an import, each of which stores piece after piece of the upload."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Connection

from chassis.backing_services import BackingServices
from chassis.storage.database import DatabaseManager
from userservice.jobs import queries, service, uploads
from userservice.jobs.metrics import count_import
from userservice.jobs.models import OPEN, UNFINISHED, JobState, UploadFormat
from userservice.jobs.queries import JobRow
from userservice.jobs.records import Piece
from userservice.jobs.rows import Batch, Refusal, merge_ignored, parse
from userservice.users import transfer
from userservice.users.metrics import count_user_created

logger = logging.getLogger(__name__)

# Far below OUTBOX_LEASE_SECONDS, and long enough that the cost of a message does not matter.
STEP_SECONDS = 2.0


class _Parsed(NamedTuple):
    """A piece that was read, and the job's progress before and after it is stored."""

    before: JobRow
    ahead: JobRow
    batch: Batch
    is_last: bool
    """Whether the step ends with this piece, and a message continues the job."""


def run_import_step(services: BackingServices, job_id: UUID, *, seconds: float = 0.0) -> bool:
    """Import the next pieces of an upload; return False when there was nothing left to do.

    A transaction stores the users of a piece, its refused lines and the progress, and for the
    last piece also the message for the next step. If the worker dies within a piece, the whole
    piece is done again.

    Args:
        services: The attached resources.
        job_id: The import's id.
        seconds: No piece is begun after this time, but at least one is.
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
        # Another process reads the next piece while this one is stored.
        parsing = None if is_last else _begin_piece(services, ahead)
        parsed = _Parsed(job, ahead, batch, is_last)
        stored = _store_piece(services.database, parsed, are_likely_free=are_likely_free)
        if stored is None:
            return has_stored
        # Taken addresses come together, for example when a file is imported a second time.
        are_likely_free = stored.failed - job.failed == len(batch.refusals)
        job, has_stored = stored, True
    return has_stored


def _begin_piece(services: BackingServices, job: JobRow) -> Future[Batch] | None:
    """Begin to read a job's next piece in another process, because parsing takes the GIL.

    Returns None when the upload is gone.
    """
    data = uploads.read_piece(services.database, job)
    if job.total_bytes and not data:
        return None
    is_last = job.done_bytes + len(data) >= job.total_bytes
    piece = Piece(data, UploadFormat(job.format), job.line, job.header, is_last)
    return services.tasks.submit_cpu_task(parse, piece, services.hasher.parameters)


def _progress(job: JobRow, batch: Batch) -> JobRow:
    """Return a job with its progress after a batch."""
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
        ignored=merge_ignored(job.ignored or {}, batch.ignored) or None,
    )


def _store_piece(
    database: DatabaseManager, parsed: _Parsed, *, are_likely_free: bool
) -> JobRow | None:
    """Store a piece and its job's progress; return the job.

    Returns None when another worker has stored it, or the job is over.
    """
    job, batch = parsed.before, parsed.batch
    with database.transaction() as connection:
        if not queries.lock_step(connection, job):
            return None
        created = transfer.import_users(connection, batch.users, are_likely_free=are_likely_free)
        refusals = sorted([*batch.refusals, *_taken(batch, created)])
        shown = refusals[: max(0, service.SHOWN_ERRORS - job.failed)]
        queries.insert_errors(connection, job.id, shown)
        stored = parsed.ahead._replace(
            created=job.created + len(created), failed=job.failed + len(refusals)
        )
        _store_progress(connection, stored, is_last=parsed.is_last)
    _tell(stored, created, refused=len(refusals))
    return stored


def _store_progress(connection: Connection, job: JobRow, *, is_last: bool) -> None:
    if job.state not in OPEN:
        queries.delete_chunks(connection, job.id)
    elif is_last:
        service.enqueue_step(connection, job.id)
    queries.update_progress(connection, job)


def _tell(job: JobRow, created: Mapping[str, str], *, refused: int) -> None:
    """Count the users and refusals of a piece, and log the end of its job.

    Args:
        job: The job after the piece.
        created: Key of the mailbox -> tier, for each created user.
        refused: Number of refused lines.
    """
    for tier, number in Counter(created.values()).items():
        count_user_created("import", tier, number)
    count_import(created=len(created), refused=refused)
    if job.state not in OPEN:
        outcome = {"state": job.state, "users": job.created, "refused": job.failed}
        outcome["ignored"] = dict(job.ignored or {})
        logger.info("Import ended", extra={"job_id": str(job.id), **outcome})


def _taken(batch: Batch, created: Iterable[str]) -> list[Refusal]:
    """Return refusals of the lines whose address belongs to a user or to an earlier line."""
    free = set(created)
    refusals = []
    for line, key in zip(batch.lines, batch.users.mailbox_key, strict=True):
        if key in free:
            free.remove(key)
        else:
            refusals.append(Refusal(line, "/email", "User already exists"))
    return refusals
