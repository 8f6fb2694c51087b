"""/users/import, /users/export and /jobs over HTTP."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack
from http import HTTPStatus
from itertools import chain
from uuid import UUID

from flask import Blueprint, Response, request
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge

from chassis.errors import InvalidRequest, UnsupportedMediaType
from chassis.http.auth import Guard, requires
from chassis.http.context import backing_services, web_context
from chassis.http.operation import Operation
from chassis.http.web import address, empty_response, json_response, read_query, refuse_coding
from userservice.jobs import exports, service, uploads
from userservice.jobs.errors import JobNotFound, UploadTooLarge
from userservice.jobs.models import JobState, UploadFormat
from userservice.jobs.queries import JobRow
from userservice.jobs.rows import Refusal
from userservice.jobs.schemas import ExportQuery, JobLineError, JobProgress, JobRead
from userservice.jobs.transfers import Transfers
from userservice.scopes import Scope

blueprint = Blueprint("jobs", __name__)

MEDIA_TYPES = {"application/x-ndjson": UploadFormat.NDJSON, "text/csv": UploadFormat.CSV}
READ_BYTES = 64 * 1024


@blueprint.post("/users/import")
@requires(Guard.ADMINISTRATOR, Scope.USERS_IMPORT)
@Operation(
    "Import users",
    tag="jobs",
    upload=tuple(MEDIA_TYPES),
    returns={202: JobRead},
    raises=(InvalidRequest, UploadTooLarge, UnsupportedMediaType),
    response_headers={202: ("Location",)},
)
def import_users() -> Response:
    """One user a line, as POST /users takes them. A refused line stops no other.

    A line may bring a `password_hash` of another service instead of a password, and
    `email_verified`. Members that no user has are ignored, and counted by their names.
    """
    job = _receive(_upload_format())
    return json_response(
        _document(job, ()), HTTPStatus.ACCEPTED, {"Location": address(f"/jobs/{job.id}")}
    )


@blueprint.get("/users/export")
@requires(Guard.ADMINISTRATOR, Scope.USERS_EXPORT)
@Operation(
    "Export users",
    tag="jobs",
    query=ExportQuery,
    returns={200: None},
    download=tuple(MEDIA_TYPES),
    response_headers={200: ("Content-Disposition",)},
)
def export_users() -> Response:
    """All live users as of one moment, a line each. A file that breaks off is not complete."""
    upload_format = UploadFormat(read_query(ExportQuery).format)
    lines = exports.export_users(backing_services().database, upload_format)
    return _send(lines, upload_format)


@blueprint.get("/jobs/<uuid:job_id>")
@requires(Guard.ADMINISTRATOR, Scope.USERS_IMPORT)
@Operation("Read a job", tag="jobs", returns={200: JobRead}, raises=(JobNotFound,))
def get_job(job_id: UUID) -> Response:
    """The progress of a job, and its first refused lines."""
    return json_response(_document(*service.get_job(backing_services().database, job_id)))


@blueprint.delete("/jobs/<uuid:job_id>")
@requires(Guard.ADMINISTRATOR, Scope.USERS_IMPORT)
@Operation("Cancel a job", tag="jobs", returns={204: None}, raises=(JobNotFound,))
def cancel_job(job_id: UUID) -> Response:
    """Imported users stay. A job that is over stays as it is."""
    service.cancel_job(backing_services().database, job_id)
    return empty_response(HTTPStatus.NO_CONTENT)


def _upload_format() -> UploadFormat:
    upload_format = MEDIA_TYPES.get(request.mimetype)
    if upload_format is None:
        raise UnsupportedMediaType(*MEDIA_TYPES)
    refuse_coding()
    return upload_format


def _receive(upload_format: UploadFormat) -> JobRow:
    transfers = web_context().part(Transfers)
    transfers.begin()
    try:
        return uploads.start_import(backing_services().database, upload_format, _read_upload())
    except RequestEntityTooLarge:
        raise UploadTooLarge from None
    except ClientDisconnected:
        raise InvalidRequest("The upload broke off") from None
    finally:
        transfers.end()


def _send(lines: Generator[bytes, None, None], upload_format: UploadFormat) -> Response:
    media_type = next(name for name, each in MEDIA_TYPES.items() if each is upload_format)
    disposition = {"Content-Disposition": f'attachment; filename="users.{upload_format}"'}
    transfers = web_context().part(Transfers)
    transfers.begin()
    with ExitStack() as held:
        held.callback(transfers.end)
        held.callback(lines.close)
        # Before the answer begins, because a later failure can only break it off.
        first = next(lines, b"")
        response = Response(chain([first], lines), headers=disposition, mimetype=media_type)
        response.call_on_close(held.pop_all().close)
    return response


def _read_upload() -> Iterator[bytes]:
    limit = web_context().part(Transfers).max_bytes
    # One byte more than the limit: else a chunked body would be cut there instead of refused.
    request.max_content_length = limit + 1
    received = 0
    while piece := request.stream.read(READ_BYTES):
        received += len(piece)
        if received > limit:
            raise UploadTooLarge
        yield piece
    # When the client hangs up, some servers report an ordinary end of the body.
    if received < (request.content_length or 0):
        raise ClientDisconnected


def _document(job: JobRow, refusals: Sequence[Refusal]) -> JobRead:
    return JobRead(
        id=job.id,
        kind=job.kind,
        format=UploadFormat(job.format),
        state=JobState(job.state),
        reason=job.reason,
        progress=JobProgress(done_bytes=job.done_bytes, total_bytes=job.total_bytes),
        created=job.created,
        failed=job.failed,
        errors=[JobLineError.model_validate(each, from_attributes=True) for each in refusals],
        ignored=dict(job.ignored or {}),
        created_at=job.created_at,
        updated_at=job.updated_at,
    )
