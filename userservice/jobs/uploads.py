"""Uploads: the bytes of an import, stored as they arrive, read piece by piece."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from uuid import UUID

from chassis.storage import audit
from chassis.storage.database import DatabaseManager
from chassis.storage.ids import uuid7
from userservice.actions import Action
from userservice.jobs import queries
from userservice.jobs.models import JobState, UploadFormat
from userservice.jobs.queries import JobRow
from userservice.jobs.service import enqueue_step

logger = logging.getLogger(__name__)

CHUNK_BYTES = 256 * 1024


def start_import(
    database: DatabaseManager, upload_format: UploadFormat, pieces: Iterable[bytes]
) -> JobRow:
    """Store an upload as it arrives, and queue the job that imports it.

    An upload that breaks off leaves nothing behind. The import begins when the upload is whole.
    """
    with database.connection() as connection:
        job = queries.insert_job(connection, uuid7(), "import", upload_format)
    try:
        total = _store(database, job.id, pieces)
    except BaseException:
        with database.connection() as connection:
            queries.delete_job(connection, job.id)
        raise
    with database.transaction() as connection:
        queries.update_job(connection, job.id, state=JobState.QUEUED, total_bytes=total)
        enqueue_step(connection, job.id)
        audit.record(connection, Action.IMPORT_CREATED, job.id)
    logger.info("Import queued", extra={"job_id": str(job.id), "bytes": total})
    return job._replace(state=JobState.QUEUED, total_bytes=total)


def read_piece(database: DatabaseManager, job: JobRow) -> bytes:
    """Return the next bytes of a job's upload; none at the end, or without an upload."""
    with database.connection() as connection:
        return queries.read_chunks(connection, job.id, job.done_bytes, CHUNK_BYTES)


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
