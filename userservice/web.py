"""What a route needs from the request, and the response it gives back."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import TypeVar, cast
from uuid import uuid4

from flask import Flask, Response, current_app, g, request
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from userservice.backing_services import BackingServices
from userservice.errors import InvalidRequest, UnsupportedMediaType
from userservice.schemas import Schema

SchemaType = TypeVar("SchemaType", bound=Schema)

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
MAX_BODY_BYTES = 64 * 1024

# Printable, short, and nothing that could end a header or a log field.
_SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9._:+/=-]{1,128}", re.ASCII)


def backing_services() -> BackingServices:
    """Return the attached resources of the application that serves this request."""
    return cast("BackingServices", current_app.extensions["backing_services"])


def read_body(schema: type[SchemaType], *media_types: str) -> SchemaType:
    """Read the request's JSON body.

    Args:
        schema: What the body must look like.
        media_types: Accepted content types; application/json when none is named.

    Raises:
        UnsupportedMediaType: the body is of another type.
        InvalidRequest: the body breaks a rule.
        RequestEntityTooLarge: the body is larger than the application allows.
    """
    accepted = media_types or (JSON,)
    if request.mimetype not in accepted:
        raise UnsupportedMediaType(f"Content-Type must be {' or '.join(accepted)}")
    return schema.load(_read_input())


def _read_input() -> bytes:
    limit = request.max_content_length or MAX_BODY_BYTES
    # Without the one byte more, a chunked body would be cut at the limit instead of refused.
    request.max_content_length = limit + 1
    try:
        body = request.get_data(cache=False)
    except HTTPException:
        raise
    except Exception as error:
        # A server finds a broken chunk only now, and says so with exceptions of its own.
        raise InvalidRequest("The request body could not be read") from error
    if len(body) > limit:
        raise RequestEntityTooLarge
    return body


def read_query(schema: type[SchemaType]) -> SchemaType:
    """Read the query parameters; of one that is repeated, the first.

    Raises:
        InvalidRequest: a parameter breaks a rule.
    """
    try:
        values = request.args.to_dict()
    except UnicodeDecodeError:
        raise InvalidRequest("The query string is not valid UTF-8") from None
    return schema.load_values(values)


def json_response(
    document: Schema,
    status: HTTPStatus = HTTPStatus.OK,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Render a document."""
    return Response(document.model_dump_json(), status, headers, mimetype=JSON)


def is_unchanged(etag: str) -> bool:
    """Tell whether the caller's copy (If-None-Match) is still the current one."""
    return request.headers.get("If-None-Match") is not None and (
        request.if_none_match.contains_weak(etag.strip('"'))
    )


def request_id() -> str:
    """Return the id of this request: the caller's when it is sane, else one of our own."""
    if "request_id" not in g:
        given = request.headers.get("X-Request-ID", "")
        g.request_id = given if _SANE_REQUEST_ID.fullmatch(given) else uuid4().hex
    return cast("str", g.request_id)


def register_response_headers(app: Flask) -> None:
    """Give every response the headers that all of them carry."""

    @app.after_request
    def _add_headers(response: Response) -> Response:
        response.headers["X-Request-ID"] = request_id()
        response.headers.setdefault("Cache-Control", "no-store")
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response
