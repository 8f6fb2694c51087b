"""Expected failures about jobs."""

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
    remedy = "Send it in several parts."


class TooManyTransfers(Unavailable):
    """This process is already transferring as many imports and exports as it may."""

    title = "Too many imports and exports are in progress"
