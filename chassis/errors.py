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
    remedy: ClassVar[str] = "Try again later. If it happens again, report the request_id."
    """The way out for callers, in whole sentences."""

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
    remedy = "Correct what detail and errors name. Sent again as it is, it is refused again."


class Unauthenticated(AppError):
    """There are no credentials, or they are not valid."""

    status = HTTPStatus.UNAUTHORIZED
    code = "unauthenticated"
    title = "Valid credentials are required"
    remedy = "Send an access token or an API key. Renew an access token that has expired."


class InvalidToken(Unauthenticated):
    """An access token came along, and is garbled, expired, or names nobody any more."""

    title = "Access token is not valid"


class InvalidKey(Unauthenticated):
    """An API key came along, and is unknown, has expired or was revoked."""

    title = "API key is not valid"


class UnknownScheme(Unauthenticated):
    """The header Authorization came along with another scheme than Bearer, or without one."""

    title = "Authorization must begin with Bearer; an API key goes into X-API-Key"


class Forbidden(AppError):
    """The caller is known and may not do this."""

    status = HTTPStatus.FORBIDDEN
    code = "forbidden"
    title = "Not allowed"
    remedy = "Ask for this as somebody who may do it."


class InsufficientScope(Forbidden):
    """The API key is valid, and does not have the scope that this needs."""

    code = "insufficient_scope"
    title = "The API key lacks a scope"
    remedy = "Use a key with the scope that detail names."

    def __init__(self, scope: str) -> None:
        super().__init__(f"The API key needs the scope {scope}")


class NotFound(AppError):
    """There is nothing at this address."""

    status = HTTPStatus.NOT_FOUND
    code = "not_found"
    title = "Not found"
    remedy = "Check the address. Deleted things do not come back."


class Conflict(AppError):
    """The request contradicts stored data."""

    status = HTTPStatus.CONFLICT
    code = "conflict"
    title = "Conflict"
    remedy = "Read the data as they are, and send a request that fits them."


class PreconditionFailed(AppError):
    """The resource has changed since the caller read it."""

    status = HTTPStatus.PRECONDITION_FAILED
    code = "precondition_failed"
    title = "The resource has changed since it was read"
    remedy = "Read it again, and send the change with the new ETag."


class TooManyRequests(AppError):
    """The caller has used up its rate."""

    status = HTTPStatus.TOO_MANY_REQUESTS
    code = "too_many_requests"
    title = "Too many requests"
    remedy = "Wait for as long as Retry-After says."


class UnsupportedMediaType(AppError):
    """The body is of a type that this route does not read."""

    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    code = "unsupported_media_type"
    title = "Unsupported media type"
    remedy = "Send one of the types that Accept, or for PATCH Accept-Patch, names."

    def __init__(self, *accepted: str) -> None:
        super().__init__(f"Content-Type must be {' or '.join(accepted)}" if accepted else None)
        self.accepted = accepted


class UnsupportedCoding(AppError):
    """The body is compressed, or coded in another way."""

    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    code = "unsupported_content_coding"
    title = "The body must be sent as it is, without Content-Encoding"
    remedy = "Send it without Content-Encoding, not compressed."


class Unavailable(AppError):
    """A dependency of this request is away for the moment; the client should try again."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    code = "unavailable"
    title = "Service temporarily unavailable"
    remedy = "Send it again after as many seconds as Retry-After says."

    def __init__(
        self, detail: str | None = None, *, retry_after: timedelta = timedelta(seconds=1)
    ) -> None:
        super().__init__(detail, retry_after=retry_after)


class Undeliverable(AppError):
    """Nothing can be done about a message, now or later: it is skipped, with this reason.

    A shortcut for its handler, and no failure: nobody has to look after it.
    """

    status = HTTPStatus.OK
    title = "There is nothing to deliver"
