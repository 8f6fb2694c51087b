"""Flask without the parts that an API of JSON documents has no use for."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from io import BytesIO
from typing import IO, TYPE_CHECKING, Any
from uuid import UUID

from flask import Flask, Request, Response
from flask.sessions import NullSession, SessionInterface
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.routing import BaseConverter, MapAdapter
from werkzeug.utils import cached_property

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

NOWHERE = "/ "  # no route has a blank
_BODILESS = frozenset({204, 304})
# Werkzeug looks through all other addresses for what has to be escaped.
_PLAIN_ADDRESS = re.compile(r"[A-Za-z0-9/._-]*")


class PlainRequest(Request):
    """A request whose body, if the server has gathered it, is not read through a second stream."""

    @cached_property
    def stream(self) -> IO[bytes]:
        """Return the body, which can be read once.

        Raises:
            RequestEntityTooLarge: it is larger than `max_content_length`.
        """
        body = self.environ["wsgi.input"]
        if type(body) is not BytesIO or "wsgi.input_terminated" not in self.environ:
            return super().stream
        limit = self.max_content_length
        if limit is not None and body.getbuffer().nbytes > limit:
            raise RequestEntityTooLarge
        return body


class PlainResponse(Response):
    """A response that hands a whole body and its headers on as they are."""

    # Made from a response of another class, it may have to be closed.
    _may_be_plain = False

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._may_be_plain = True

    def call_on_close(self, func: Callable[[], Any]) -> Callable[[], Any]:
        """Have something done when the answer has been sent."""
        self._may_be_plain = False
        return super().call_on_close(func)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request."""
        if not (self._may_be_plain and self._is_plain(environ)):
            return super().__call__(environ, start_response)
        start_response(self.status, [*self.headers])
        return self.response  # type: ignore[return-value]  # bytes, as _is_plain has seen

    def _is_plain(self, environ: WSGIEnvironment) -> bool:
        headers = {name.lower(): value for name, value in self.headers}
        return (
            type(self.response) is list
            and all(type(each) is bytes for each in self.response)
            and environ["REQUEST_METHOD"] != "HEAD"
            and self.status_code >= 200  # noqa: PLR2004 - below it there is no body
            and self.status_code not in _BODILESS
            and "content-length" in headers
            and _PLAIN_ADDRESS.fullmatch(headers.get("location", "")) is not None
            and "content-location" not in headers
        )


class HexConverter(BaseConverter):
    """Takes <hex:...> in the rule of a route for an id of 32 hexadecimal digits."""

    regex = "[0-9a-f]{32}"

    def to_python(self, value: str) -> UUID:
        """Return the id."""
        return UUID(value)


class _NoSessions(SessionInterface):
    _session = NullSession()

    def open_session(self, app: Flask, request: Request) -> NullSession:  # noqa: ARG002
        return self._session


class PlainFlask(Flask):
    """Flask for callers that have no sessions, and by whatever name they call.

    SERVER_NAME and TRUSTED_HOSTS are not looked at: which host is asked for makes no difference.
    """

    request_class = PlainRequest
    response_class = PlainResponse
    session_interface = _NoSessions()

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.url_map.converters["hex"] = HexConverter
        # On each request Flask checks whether each function is a coroutine; one check is enough.
        # Bounded, because `after_this_request` adds new functions.
        self.ensure_sync = lru_cache(maxsize=256)(self.ensure_sync)  # type: ignore[method-assign]

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """Return what finds the route of a request, by its path and method alone."""
        if request is None:
            return super().create_url_adapter(None)
        environ = request.environ
        # Werkzeug would take //x for /x, which a proxy in front may have rules about.
        is_odd = environ.get("PATH_INFO", "").startswith("//")
        return MapAdapter(
            self.url_map,
            environ.get("HTTP_HOST") or environ["SERVER_NAME"],
            request.root_path,
            "",
            request.scheme,
            NOWHERE if is_odd else request.path,
            request.method,
            environ.get("QUERY_STRING", ""),
        )
