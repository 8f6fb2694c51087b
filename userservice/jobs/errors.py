"""What can be wrong with a job."""

from __future__ import annotations

from http import HTTPStatus

from chassis.errors import AppError, NotFound, Unavailable


class JobNotFound(NotFound):
    """There is no job with this id."""

    code = "job_not_found"
    title = "Job not found"


class UploadTooLarge(AppError):
    """The upload is larger than IMPORT_MAX_BYTES."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    code = "upload_too_large"
    title = "The upload is too large"


class TooManyTransfers(Unavailable):
    """As many imports and exports as this process takes are being transferred."""

    title = "Too many imports and exports are in progress"
