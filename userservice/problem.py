"""Every error as application/problem+json (RFC 9457)."""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Mapping
from http import HTTPStatus
from random import getrandbits

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException, InternalServerError

from userservice import SERVICE_NAME
from userservice.errors import AppError, FieldError, Unauthenticated
from userservice.tracing import trace_id
from userservice.web import SAFE_HEADERS, request_id

logger = logging.getLogger(__name__)

PROBLEM_JSON = "application/problem+json"
CHALLENGE = f'Bearer realm="{SERVICE_NAME}"'
OAUTH_PREFIX = "/auth/"

# Statuses that Werkzeug answers by itself, in our words and with our codes.
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


def register_error_handlers(app: Flask) -> None:
    """Turn whatever ends a request early into a problem document."""
    app.register_error_handler(AppError, _render_app_error)
    app.register_error_handler(HTTPException, _render_http_error)
    # Flask would write the same traceback beside the one of _render_http_error.
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
        "type": f"/problems/{code.replace('_', '-')}",
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


def names_of(status: int) -> tuple[str, str]:
    """Return title and code of a status that is no error of ours."""
    title = _TITLES.get(status) or HTTPStatus(status).phrase
    return title, re.sub(r"\W+", "_", title.replace("'", "")).lower()


def refusal(status: HTTPStatus) -> tuple[list[tuple[str, str]], bytes]:
    """Return headers and body of the answer to what never became a request.

    Nothing of what was sent is in it.
    """
    title, code = names_of(status)
    own_id = f"{getrandbits(128):032x}"
    members = document(
        status=status, code=code, title=title, detail=title, instance="", request_id=own_id
    )
    headers = SAFE_HEADERS | {"Content-Type": PROBLEM_JSON, "X-Request-ID": own_id}
    return [*headers.items()], json.dumps(members).encode()


def _render_app_error(error: AppError) -> Response:
    headers = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after.total_seconds())))
    if isinstance(error, Unauthenticated):
        headers["WWW-Authenticate"] = CHALLENGE
    if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        logger.warning("Request failed", extra={"code": error.code}, exc_info=error)
    if request.path.startswith(OAUTH_PREFIX):
        return _oauth_response(error, headers)
    return _response(
        error.status, error.code, error.title, error.detail, headers, tuple(error.errors)
    )


def _oauth_response(error: AppError, headers: dict[str, str]) -> Response:
    """Put the code where OAuth 2 clients look for it (RFC 6749, section 5.2)."""
    response = _response(
        error.status, error.code, error.title, error.detail, headers, tuple(error.errors)
    )
    body = json.loads(response.get_data())
    body |= {"error": error.code, "error_description": error.detail}
    response.set_data(json.dumps(body))
    response.headers["Cache-Control"] = "no-store"
    return response


def _render_http_error(error: HTTPException) -> Response:
    status = HTTPStatus(error.code or HTTPStatus.INTERNAL_SERVER_ERROR)
    if isinstance(error, InternalServerError):
        cause = error.original_exception or error
        logger.error(
            "Unhandled exception", extra={"error_type": type(cause).__name__}, exc_info=cause
        )
        return _response(status, AppError.code, AppError.title, AppError.title)
    title, code = names_of(status)
    headers = {
        name: value for name, value in error.get_headers() if name in {"Allow", "Retry-After"}
    }
    return _response(status, code, title, _DETAILS.get(status, title), headers)


def _response(  # noqa: PLR0913, PLR0917 - the parts of a response
    status: HTTPStatus,
    code: str,
    title: str,
    detail: str,
    headers: Mapping[str, str] | None = None,
    errors: tuple[FieldError, ...] = (),
) -> Response:
    body = document(
        status=status,
        code=code,
        title=title,
        detail=detail,
        instance=request.path,
        request_id=request_id(),
        errors=errors,
    )
    return Response(json.dumps(body), status, headers, content_type=PROBLEM_JSON)
