"""Conditional requests (RFC 9110, section 13) for rows that count their changes.

A condition on dates sees whole seconds, and counts only without the one on ETags that it repeats.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from email.utils import format_datetime
from http import HTTPStatus
from typing import Protocol

from flask import Response, request
from werkzeug.http import parse_date

from chassis.errors import PreconditionFailed
from chassis.http.web import PRIVATE, empty_response, json_response
from chassis.schemas import Schema

# Request headers that a route for such a row honours: one that changes it, and one that reads it.
CHANGE_CONDITIONS = ("If-Match", "If-None-Match", "If-Unmodified-Since")
CONDITIONS = (*CHANGE_CONDITIONS, "If-Modified-Since")
# The same in WSGI's environ, to see at a glance that a request has none.
_KEYS = frozenset(f"HTTP_{name.upper().replace('-', '_')}" for name in CONDITIONS)
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
    """Render a row, or answer 304 when the caller has this version already.

    Raises:
        PreconditionFailed: the caller expects another version.
    """
    if request.environ.keys().isdisjoint(_KEYS):
        return versioned_response(schema, row)
    if not _is_expected(row):
        raise PreconditionFailed
    if _is_known(row):
        return empty_response(HTTPStatus.NOT_MODIFIED, _validators(row))
    return versioned_response(schema, row)


def expected_versions(find: Callable[[], Versioned]) -> frozenset[int] | None:
    """Return the versions at which the caller wants a row to be changed; None when any will do.

    A weak ETag, or one that this service did not make, names no version and never matches.

    Args:
        find: Returns the row as it is. Called when it is not ETags alone that decide; the
            version that the other conditions are held against is then the only one.

    Raises:
        PreconditionFailed: a condition does not hold.
    """
    given = request.headers
    if "If-None-Match" not in given and ("If-Match" in given or _unmodified_since() is None):
        return _named_versions()
    row = find()
    if not _is_expected(row) or ("If-None-Match" in given and _has_known_etag(row)):
        raise PreconditionFailed
    return frozenset({row.version})


def _named_versions() -> frozenset[int] | None:
    etags = request.if_match
    if request.headers.get("If-Match") is None or etags.star_tag:
        return None
    # Werkzeug gives None for an ETag that is empty.
    return frozenset(int(etag) for etag in etags if _OUR_ETAG.fullmatch(etag or ""))


def _is_expected(row: Versioned) -> bool:
    """Tell whether If-Match, or without it If-Unmodified-Since, holds."""
    if "If-Match" in request.headers:
        versions = _named_versions()
        return versions is None or row.version in versions
    since = _unmodified_since()
    return since is None or _last_modified(row) <= since


def _is_known(row: Versioned) -> bool:
    """Tell whether If-None-Match, or without it If-Modified-Since, says that nothing is new."""
    if "If-None-Match" in request.headers:
        return _has_known_etag(row)
    since = _date("If-Modified-Since")
    return since is not None and _last_modified(row) <= since


def _has_known_etag(row: Versioned) -> bool:
    return request.if_none_match.contains_weak(str(row.version))


def _unmodified_since() -> datetime | None:
    return _date("If-Unmodified-Since")


def _date(name: str) -> datetime | None:
    """Return a header's date; one that is none, or several of them, do not count."""
    value = request.headers.get(name)
    if value is None or value.count(",") > 1:
        return None
    try:
        return parse_date(value)
    except OverflowError:  # a year or a zone beyond all bounds
        return None


def _last_modified(row: Versioned) -> datetime:
    return row.updated_at.replace(microsecond=0)


def _validators(row: Versioned) -> dict[str, str]:
    return {
        "ETag": f'"{row.version}"',
        "Last-Modified": format_datetime(row.updated_at, usegmt=True),
        "Cache-Control": PRIVATE,
    }
