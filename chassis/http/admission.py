"""Overload: the service works on a bounded number of requests and tells the rest to come back."""

from __future__ import annotations

from collections.abc import Iterable
from threading import Lock
from typing import TYPE_CHECKING

from flask import Flask, Response, request
from werkzeug.wsgi import ClosingIterator

from chassis.errors import Unavailable

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

# The platform asks for these, and they cost little: they are answered even under overload.
EXEMPT = frozenset({"/health", "/ready", "/metrics", "/version"})
OVERLOADED = "chassis.overloaded"
STREAMED = "chassis.streamed"


def layer(app: Flask, *, limit: int) -> WSGIApplication:
    """Answer 503 to all requests beyond `limit` at a time, probes and scrapes excepted."""

    @app.before_request
    def _refuse_overload() -> None:
        if OVERLOADED in request.environ:
            raise Unavailable("Too many requests are in progress")

    @app.after_request
    def _mark_stream(response: Response) -> Response:
        if response.is_streamed:
            request.environ[STREAMED] = True
        return response

    return _Admission(app.wsgi_app, limit)


class _Admission:
    """WSGI middleware that marks the requests for which there is no slot."""

    def __init__(self, app: WSGIApplication, limit: int) -> None:
        self._app = app
        self._slots = _Slots(limit)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ.get("PATH_INFO") in EXEMPT:
            return self._app(environ, start_response)
        if not self._slots.take():
            environ[OVERLOADED] = True
            return self._app(environ, start_response)
        is_streamed = False
        try:
            answer = self._app(environ, start_response)
            is_streamed = STREAMED in environ
            # The application is still making a stream; its last byte frees its slot.
            return ClosingIterator(answer, self._slots.give_back) if is_streamed else answer
        finally:
            if not is_streamed:
                self._slots.give_back()


class _Slots:
    """A number of slots; a semaphore of Python's would take three times the work."""

    def __init__(self, limit: int) -> None:
        self._free = limit
        self._lock = Lock()

    def take(self) -> bool:
        """Take a slot, if one is free."""
        with self._lock:
            is_free = self._free > 0
            self._free -= is_free
        return is_free

    def give_back(self) -> None:
        """Free a slot that was taken."""
        with self._lock:
            self._free += 1
