"""Conditional requests (RFC 9110, section 13) for rows that count their changes."""

from __future__ import annotations

import re
from datetime import datetime
from email.utils import format_datetime
from http import HTTPStatus
from typing import Protocol

from flask import Response, request

from chassis.http.web import PRIVATE, empty_response, json_response
from chassis.schemas import Schema

_OUR_ETAG = re.compile(r"[1-9][0-9]{0,8}")  # no more digits than the column holds


class Versioned(Protocol):
    """A row whose `version` is 1 at first, and one more after each change."""

    @property
    def version(self) -> int:
        """The number of times that the row was stored."""

    @property
    def updated_at(self) -> datetime:
        """The time of the last change, in UTC."""


def versioned_response(
    schema: type[Schema],
    row: Versioned,
    status: HTTPStatus = HTTPStatus.OK,
    headers: dict[str, str] | None = None,
) -> Response:
    """Render a row as `schema`, with the version as ETag and the time as Last-Modified."""
    document = schema.model_validate(row, from_attributes=True)
    return json_response(document, status, _validators(row) | (headers or {}))


def conditional_response(schema: type[Schema], row: Versioned) -> Response:
    """Render a row, or answer 304 when If-None-Match names its version."""
    if request.headers.get("If-None-Match") is not None and (
        request.if_none_match.contains_weak(str(row.version))
    ):
        return empty_response(HTTPStatus.NOT_MODIFIED, _validators(row))
    return versioned_response(schema, row)


def expected_versions() -> frozenset[int] | None:
    """Return the versions that If-Match names; None when any will do.

    A weak ETag, or one that this service did not make, names no version and never matches.
    """
    etags = request.if_match
    if request.headers.get("If-Match") is None or etags.star_tag:
        return None
    # Werkzeug gives None for an ETag that is empty.
    return frozenset(int(etag) for etag in etags if _OUR_ETAG.fullmatch(etag or ""))


def _validators(row: Versioned) -> dict[str, str]:
    return {
        "ETag": f'"{row.version}"',
        "Last-Modified": format_datetime(row.updated_at, usegmt=True),
        "Cache-Control": PRIVATE,
    }
