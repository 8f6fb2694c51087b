"""Cross-origin requests: the web pages whose scripts may call (Fetch standard, section 3.2).

Callers prove themselves by headers that a script sets, never by cookies. So credentials mode is
not offered, and an origin is all there is to decide about.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import timedelta
from http import HTTPStatus

from flask import Flask, Response, request

from chassis.http.options import all_methods
from chassis.http.web import empty_response

# Browsers keep a permission for at most two hours (Chromium) or a day (Firefox).
MAX_AGE = timedelta(hours=2)
# Scripts of other origins see the headers on the Fetch standard's own short list, and these.
EXPOSED = (
    *("ETag", "Link", "Location", "Retry-After", "RateLimit", "RateLimit-Policy"),
    *("Accept-Encoding", "Accept-Patch", "Allow", "Content-Disposition"),
    *("Idempotent-Replayed", "WWW-Authenticate", "X-Request-ID"),
)
_NAMES = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+(?:[ \t]*,[ \t]*[!#$%&'*+.^_`|~0-9A-Za-z-]+)*")


def allow_origins(app: Flask, origins: Collection[str]) -> None:
    """Let scripts of some origins call; origins are compared letter by letter.

    Preflights are answered for every address, so that a script can read why its request is
    refused. Without origins nothing is added to any answer.
    """
    if not origins:
        return
    methods = ", ".join(sorted(all_methods(app)))

    @app.before_request
    def answer_preflight() -> Response | None:
        if not _is_preflight() or request.headers.get("Origin") not in origins:
            return None
        return empty_response(HTTPStatus.NO_CONTENT, _permission(methods))

    @app.after_request
    def add_headers(response: Response) -> Response:
        # Also without an origin: a cache must not give that answer to a page.
        response.vary.add("Origin")
        origin = request.headers.get("Origin")
        if origin in origins:
            response.headers["Access-Control-Allow-Origin"] = origin
            if not _is_preflight():
                response.headers["Access-Control-Expose-Headers"] = ", ".join(EXPOSED)
        return response


def _is_preflight() -> bool:
    return request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers


def _permission(methods: str) -> dict[str, str]:
    """Return the headers that let a script send any of these methods, with the wanted headers."""
    permission = {
        "Access-Control-Allow-Methods": methods,
        "Access-Control-Max-Age": str(round(MAX_AGE.total_seconds())),
        "Vary": "Access-Control-Request-Method, Access-Control-Request-Headers",
    }
    wanted = request.headers.get("Access-Control-Request-Headers", "").strip()
    if _NAMES.fullmatch(wanted):
        permission["Access-Control-Allow-Headers"] = wanted
    return permission
