"""Expected failures: facts with a stable name. `problem` renders them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from http import HTTPStatus
from typing import ClassVar, NamedTuple


class FieldError(NamedTuple):
    """The fault of one member of the input."""

    pointer: str
    """JSON Pointer (RFC 6901) into the body, or the name of a query parameter."""
    detail: str


class AppError(Exception):
    """An expected failure; HTTP shows it as problem+json, the command line as one line.

    `code` is part of the API: clients branch on it, so it never changes.
    Text given to the constructor reaches the client: no secrets, no personal data.
    """

    status: ClassVar[HTTPStatus] = HTTPStatus.INTERNAL_SERVER_ERROR
    code: ClassVar[str] = "internal_error"
    title: ClassVar[str] = "Internal server error"

    def __init__(
        self,
        detail: str | None = None,
        *,
        errors: Sequence[FieldError] = (),
        retry_after: timedelta | None = None,
    ) -> None:
        super().__init__(detail or self.title)
        self.detail = detail or self.title
        self.errors = errors
        self.retry_after = retry_after


class InvalidRequest(AppError):
    """The input breaks a rule; `errors` names the members."""

    status = HTTPStatus.BAD_REQUEST
    code = "invalid_request"
    title = "Invalid request"


class Unauthenticated(AppError):
    """There are no credentials, or they are not valid."""

    status = HTTPStatus.UNAUTHORIZED
    code = "unauthenticated"
    title = "Valid credentials are required"


class Forbidden(AppError):
    """The caller is known and may not do this."""

    status = HTTPStatus.FORBIDDEN
    code = "forbidden"
    title = "Not allowed"


class NotFound(AppError):
    """There is nothing at this address."""

    status = HTTPStatus.NOT_FOUND
    code = "not_found"
    title = "Not found"


class Conflict(AppError):
    """The request contradicts stored data."""

    status = HTTPStatus.CONFLICT
    code = "conflict"
    title = "Conflict"


class PreconditionFailed(AppError):
    """The resource has changed since the caller read it."""

    status = HTTPStatus.PRECONDITION_FAILED
    code = "precondition_failed"
    title = "The resource has changed since it was read"


class TooManyRequests(AppError):
    """The caller has used up its rate."""

    status = HTTPStatus.TOO_MANY_REQUESTS
    code = "too_many_requests"
    title = "Too many requests"


class UnsupportedMediaType(AppError):
    """The body is of a type that this route does not read."""

    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    code = "unsupported_media_type"
    title = "Unsupported media type"


class Unavailable(AppError):
    """A dependency of this request is away for the moment; the client should try again."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    code = "unavailable"
    title = "Service temporarily unavailable"

    def __init__(
        self, detail: str | None = None, *, retry_after: timedelta = timedelta(seconds=1)
    ) -> None:
        super().__init__(detail, retry_after=retry_after)
