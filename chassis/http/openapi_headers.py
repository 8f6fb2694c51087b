"""The headers of requests and answers in the API's description."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any

from chassis.http.operation import PROBES, Operation
from chassis.http.replays import REPLAYED
from chassis.http.web import MERGE_PATCH

_TEXT: dict[str, Any] = {"type": "string"}


def _header(description: str, **schema: Any) -> dict[str, Any]:
    return {"description": description, "schema": schema or _TEXT}


# Header of an answer -> its description (OpenAPI 3.1, section 4.8.21).
HEADERS = {
    "Accept": _header("Content types that this address takes."),
    "Accept-Encoding": _header("Content codings that a body may have.", enum=["identity"]),
    "Accept-Patch": _header("Content types that PATCH takes at this address."),
    "Content-Disposition": _header("Name of the file."),
    "ETag": _header("Version of the resource, for If-Match and If-None-Match."),
    REPLAYED: _header("The answer to an earlier request with this key.", enum=["true"]),
    "Last-Modified": _header("When the resource last changed."),
    "Link": _header("Address of the next page, with rel=next."),
    "Location": _header("Address of the resource that was created."),
    "RateLimit": _header("Requests that are left (r), and seconds until there are more (t)."),
    "RateLimit-Policy": _header("Requests (q) in a window of so many seconds (w)."),
    "Retry-After": _header("Seconds to wait.", type="integer", minimum=1),
    "WWW-Authenticate": _header("Bearer; with error=invalid_token if a token came along."),
    "X-Request-ID": _header("Names this answer in the logs; the request's own, if that is sane."),
}
_REQUEST_HEADERS = {
    "Idempotency-Key": "Sent again with the same body, a request is answered alike, not repeated.",
    "If-Match": "Only when the resource still has this ETag.",
    "If-None-Match": "Only when the resource no longer has this ETag.",
    "If-Modified-Since": "Only when it has changed since; counts without If-None-Match.",
    "If-Unmodified-Since": "Only when it has not changed since; counts without If-Match.",
}
_REQUEST_HEADER_SCHEMAS = {
    "Idempotency-Key": {
        "type": "string",
        "minLength": 1,
        "maxLength": 255,
        "pattern": "^[!-~]([ -~]*[!-~])?$",
    },
}


def request_headers(operation: Operation) -> list[dict[str, Any]]:
    """Return the Parameter Objects of the headers that a route honours."""
    return [
        {
            "name": name,
            "in": "header",
            "required": False,
            "description": _REQUEST_HEADERS[name],
            "schema": _REQUEST_HEADER_SCHEMAS.get(name, _TEXT),
        }
        for name in operation.request_headers
    ]


def answer_headers(
    operation: Operation, view: Callable[..., Any], status: int
) -> dict[str, dict[str, str]]:
    """Return name -> reference, for each header that an answer with a status may carry."""
    names = [*operation.response_headers.get(status, ()), *_shared(operation, view, status)]
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _shared(operation: Operation, view: Callable[..., Any], status: int) -> Iterator[str]:
    yield "X-Request-ID"
    if "limit" in view.__dict__:
        yield from ("RateLimit", "RateLimit-Policy")
    match status:
        case HTTPStatus.UNAUTHORIZED:
            yield "WWW-Authenticate"
        case HTTPStatus.UNSUPPORTED_MEDIA_TYPE:
            yield "Accept-Patch" if MERGE_PATCH in operation.media_types else "Accept"
            yield "Accept-Encoding"
        case HTTPStatus.TOO_MANY_REQUESTS | HTTPStatus.SERVICE_UNAVAILABLE:
            if operation.tag != PROBES:
                yield "Retry-After"
