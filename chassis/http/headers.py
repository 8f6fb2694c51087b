"""The headers that every answer carries."""

from __future__ import annotations

import re
from collections.abc import Iterable
from random import getrandbits
from typing import TYPE_CHECKING, Any

from flask import Flask, request

from chassis.http.rate_limit import rate_limit_headers

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

# A browser may load, frame or run nothing of an answer.
SAFE_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Strict-Transport-Security": "max-age=31536000",
    "X-Content-Type-Options": "nosniff",
}
_SAFE_HEADERS = tuple((each[0].lower(), each) for each in SAFE_HEADERS.items())

_REQUEST_ID = "chassis.request_id"
# Short and printable, without characters that could end a header or a log field.
_SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9._:+/=-]{1,128}", re.ASCII)


def request_id() -> str:
    """Return the id of this request."""
    return id_of(request.environ)


def id_of(environ: WSGIEnvironment) -> str:
    """Return a request's id: the caller's when it is sane, else a new one."""
    known: str | None = environ.get(_REQUEST_ID)
    if known is None:
        given = environ.get("HTTP_X_REQUEST_ID", "")
        known = given if _SANE_REQUEST_ID.fullmatch(given) else f"{getrandbits(128):032x}"
        environ[_REQUEST_ID] = known
    return known


def layer(app: Flask) -> WSGIApplication:
    """Give every answer its request's id, the rate limit's headers and the safe headers."""
    answer = app.wsgi_app

    def with_headers(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        def begin(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            given = {name.lower() for name, _ in headers}
            headers.append(("X-Request-ID", id_of(environ)))
            headers += rate_limit_headers(environ)
            headers += [each for name, each in _SAFE_HEADERS if name not in given]
            return start_response(status, headers, *more)

        return answer(environ, begin)

    return with_headers
