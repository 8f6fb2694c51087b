"""Every error as application/problem+json (RFC 9457)."""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Callable, Mapping
from http import HTTPStatus
from random import getrandbits
from typing import NamedTuple

from flask import Flask, Response, current_app, request
from werkzeug.exceptions import HTTPException, InternalServerError

from chassis.errors import (
    AppError,
    FieldError,
    InvalidToken,
    Unauthenticated,
    UnsupportedCoding,
    UnsupportedMediaType,
)
from chassis.http.flask_app import PlainResponse
from chassis.http.headers import SAFE_HEADERS, request_id
from chassis.http.web import address
from chassis.telemetry.tracing import trace_id

logger = logging.getLogger(__name__)

PROBLEMS = "/problems"
PROBLEM_JSON = "application/problem+json"
# Code and detail of an error -> members that its document has in addition, or in place of ours.
Members = Callable[[str, str], Mapping[str, str]]

# Our own texts for the statuses that Werkzeug answers by itself.
_DETAILS = {
    HTTPStatus.BAD_REQUEST: "The request could not be understood",
    HTTPStatus.NOT_FOUND: "Not found",
    HTTPStatus.METHOD_NOT_ALLOWED: "Method not allowed",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The request body is too large",
}

# Names in RFC 9110 that Python has from 3.13 on; codes must not depend on its version.
_TITLES = {
    413: "Content Too Large",
    414: "URI Too Long",
    416: "Range Not Satisfiable",
    422: "Unprocessable Content",
}


def register_error_handlers(app: Flask, members: Mapping[str, Members] | None = None) -> None:
    """Turn every error that ends a request early into a problem document.

    Args:
        app: The application.
        members: Prefix of a path -> further members of the documents below it. The path
            decides, since an error of routing belongs to no blueprint.
    """
    problems = _Problems(members or {})
    app.register_error_handler(AppError, problems.render_app_error)
    app.register_error_handler(HTTPException, problems.render_http_error)
    # Flask would write the same traceback beside the one of `render_http_error`.
    app.log_exception = lambda exc_info: None  # type: ignore[method-assign]  # noqa: ARG005


def document(  # noqa: PLR0913 - the members of a problem document
    *,
    status: int,
    code: str,
    title: str,
    detail: str,
    instance: str,
    request_id: str,
    errors: tuple[FieldError, ...] = (),
) -> dict[str, object]:
    """Return the members of a problem document; `error` repeats `detail` for simple clients."""
    return {
        "type": type_of(code),
        "title": title,
        "status": status,
        "detail": detail,
        "instance": instance,
        "error": detail,
        "code": code,
        "errors": [each._asdict() for each in errors],
        "request_id": request_id,
        "trace_id": trace_id(),
    }


def type_of(code: str) -> str:
    """Return the address of the page about a code, below the place where we are mounted."""
    return f"{PROBLEMS}/{code.replace('_', '-')}"


def names_of(status: int) -> tuple[str, str]:
    """Return title and code of a status that no error class of ours has."""
    title = _TITLES.get(status) or HTTPStatus(status).phrase
    return title, re.sub(r"\W+", "_", title.replace("'", "")).lower()


def refusal(status: HTTPStatus) -> tuple[str, list[tuple[str, str]], bytes]:
    """Return status, headers and body of the answer to bytes that never became a request.

    The answer quotes none of these bytes.
    """
    title, code = names_of(status)
    own_id = f"{getrandbits(128):032x}"
    members = document(
        status=status, code=code, title=title, detail=title, instance="", request_id=own_id
    )
    headers = SAFE_HEADERS | {"Content-Type": PROBLEM_JSON, "X-Request-ID": own_id}
    return f"{status} {title}", [*headers.items()], json.dumps(members).encode()


class _Problem(NamedTuple):
    """An error's own share of its problem document."""

    status: HTTPStatus
    code: str
    title: str
    detail: str
    errors: tuple[FieldError, ...] = ()


def _challenge(error: Unauthenticated) -> str:
    """Return the challenge; only where a token came along it says what is wrong (RFC 6750)."""
    challenge = f'Bearer realm="{current_app.name}"'
    if isinstance(error, InvalidToken):
        challenge += ', error="invalid_token", error_description="The access token is not valid"'
    return challenge


class _Problems:
    """Renders errors; resources hand further members in."""

    def __init__(self, members: Mapping[str, Members]) -> None:
        self._members = members

    def render_app_error(self, error: AppError) -> Response:
        """Render a failure of ours."""
        headers = {}
        if error.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(error.retry_after.total_seconds())))
        if isinstance(error, Unauthenticated):
            headers["WWW-Authenticate"] = _challenge(error)
        if isinstance(error, UnsupportedCoding):
            headers["Accept-Encoding"] = "identity"
        elif isinstance(error, UnsupportedMediaType) and error.accepted:
            name = "Accept-Patch" if request.method == "PATCH" else "Accept"
            headers[name] = ", ".join(error.accepted)
        if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            logger.warning("Request failed", extra={"code": error.code}, exc_info=error)
        errors = tuple(error.errors)
        problem = _Problem(error.status, error.code, error.title, error.detail, errors)
        return self._response(problem, headers)

    def render_http_error(self, error: HTTPException) -> Response:
        """Render an error that Flask or Werkzeug raised, a bug included."""
        if isinstance(error, InternalServerError):
            cause = error.original_exception or error
            logger.error(
                "Unhandled exception", extra={"error_type": type(cause).__name__}, exc_info=cause
            )
            bug = _Problem(AppError.status, AppError.code, AppError.title, AppError.title)
            return self._response(bug, {})
        status = HTTPStatus(error.code or HTTPStatus.INTERNAL_SERVER_ERROR)
        title, code = names_of(status)
        headers = {
            name: value for name, value in error.get_headers() if name in {"Allow", "Retry-After"}
        }
        problem = _Problem(status, code, title, _DETAILS.get(status, title))
        return self._response(problem, headers)

    def _response(self, problem: _Problem, headers: Mapping[str, str]) -> Response:
        own = document(**problem._asdict(), instance=request.path, request_id=request_id())
        own["type"] = address(type_of(problem.code))
        body = json.dumps(own | self._further(problem))
        return PlainResponse(body, problem.status, headers, content_type=PROBLEM_JSON)

    def _further(self, problem: _Problem) -> dict[str, str]:
        return {
            name: value
            for prefix, members in self._members.items()
            if request.path.startswith(prefix)
            for name, value in members(problem.code, problem.detail).items()
        }
