"""Input of a route, read from the request, and the response it returns."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import TypeVar

from flask import Response, request
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from chassis.errors import InvalidRequest, UnsupportedCoding, UnsupportedMediaType
from chassis.http.flask_app import PlainResponse
from chassis.schemas import Schema

SchemaType = TypeVar("SchemaType", bound=Schema)

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
MERGE_PATCH = "application/merge-patch+json"
# Cache-Control of answers for one caller: only that caller keeps them, and asks again each time.
PRIVATE = "private, no-cache"
# Headers of answers that nobody keeps, such as those with tokens (RFC 6749, section 5.1).
NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}
MAX_BODY_BYTES = 64 * 1024


def read_body(schema: type[SchemaType], *media_types: str) -> SchemaType:
    """Read the request's JSON body.

    Args:
        schema: Validates the body.
        media_types: Accepted content types; application/json when none is named.

    Raises:
        UnsupportedMediaType: the body is of another type.
        InvalidRequest: the body breaks a rule.
        RequestEntityTooLarge: the body is larger than the application allows.
    """
    accepted = media_types or (JSON,)
    if request.mimetype not in accepted:
        raise UnsupportedMediaType(*accepted)
    return schema.load(read_input())


def read_input() -> bytes:
    """Read the request's body, which stays there to be parsed as a form.

    Raises:
        UnsupportedCoding: the body is compressed.
        RequestEntityTooLarge: the body is larger than the application allows.
        InvalidRequest: the body does not arrive whole.
    """
    refuse_coding()
    limit = request.max_content_length or MAX_BODY_BYTES
    # One byte more than the limit: else a chunked body would be cut there instead of refused.
    request.max_content_length = limit + 1
    try:
        body = request.get_data()
    except HTTPException:
        raise
    except Exception as error:
        # A server finds a broken chunk only now, and raises exceptions of its own.
        raise InvalidRequest("The request body could not be read") from error
    if len(body) > limit:
        raise RequestEntityTooLarge
    return body


def refuse_coding() -> None:
    """Refuse a body that is not sent as it is.

    Raises:
        UnsupportedCoding: it is compressed, for example.
    """
    coding = request.environ.get("HTTP_CONTENT_ENCODING")
    if coding and coding.strip().lower() != "identity":
        raise UnsupportedCoding


def read_query(schema: type[SchemaType]) -> SchemaType:
    """Read the query parameters; a repeated one has its first value.

    Raises:
        InvalidRequest: a parameter breaks a rule.
    """
    try:
        values = request.args.to_dict()
    except UnicodeDecodeError:
        raise InvalidRequest("The query string is not valid UTF-8") from None
    return schema.load_values(values)


def address(path: str) -> str:
    """Return the address of a path of ours, below the prefix that a trusted proxy has removed."""
    prefix: str = request.environ.get("SCRIPT_NAME", "")
    return prefix + path


def json_response(
    document: Schema,
    status: HTTPStatus = HTTPStatus.OK,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Render a document."""
    return PlainResponse(document.model_dump_json(), status, headers, mimetype=JSON)


def empty_response(status: HTTPStatus, headers: Mapping[str, str] | None = None) -> Response:
    """Return a response without a body, and so without a type."""
    response = PlainResponse(status=status, headers=headers)
    del response.headers["Content-Type"]
    return response
