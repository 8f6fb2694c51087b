"""Calls to other services over HTTP, each with one deadline for all of it."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Mapping
from datetime import timedelta
from http import HTTPStatus

from chassis.clients.connection_pool import ConnectionPool
from chassis.clients.http_answer import Answer
from chassis.clients.http_connection import HttpConnection, open_connection
from chassis.clients.http_route import Route
from chassis.errors import Unavailable
from chassis.network.deadline import Deadline
from chassis.network.resolver import LookUp, Resolver, look_up
from chassis.once import once, once_property
from chassis.telemetry.instrumentation import client_span, note_status
from chassis.telemetry.propagation import outgoing_headers

JSON = {"Content-Type": "application/json"}


class HttpClient:
    """Calls other services on kept connections, which are opened on first use.

    Args:
        timeout: How long a call may take: from the name's look-up to the end of the answer.
        agent: The caller's name, for User-Agent.
        look_up: Returns the addresses of a host and a port; raises OSError.
        trust: Makes the context of TLS; raises OSError.
    """

    def __init__(
        self,
        *,
        timeout: timedelta,
        agent: str = "python",
        look_up: LookUp = look_up,
        trust: Callable[[], ssl.SSLContext] = ssl.create_default_context,
    ) -> None:
        self._timeout = timeout
        self._trust = trust
        self._agent = {"User-Agent": agent}
        self._resolver = Resolver(look_up)
        self._pool: ConnectionPool[HttpConnection] = ConnectionPool()
        self._route = once(Route.to)  # the few URLs of the configuration

    @once_property
    def tls(self) -> ssl.SSLContext:
        """The certificates that are trusted; reading the system's costs milliseconds."""
        context = self._trust()
        context.set_alpn_protocols(["http/1.1"])
        return context

    def post(self, url: str, document: Mapping[str, object], headers: Mapping[str, str]) -> Answer:
        """Post a JSON document, in the current trace.

        With an Idempotency-Key it may be sent twice: a kept connection can end at any moment,
        and nothing says whether what was sent on it had arrived.

        Raises:
            Unavailable: there was no answer in time.
        """
        body = json.dumps(document, separators=(",", ":")).encode()
        try:
            route = self._route(url)
            with client_span("POST", route.shown, route.host, route.port) as span:
                fields = {**self._agent, **JSON, **headers, **outgoing_headers()}
                request = route.request("POST", fields, body)
                answer = self._call(route, request, may_repeat="Idempotency-Key" in headers)
                note_status(span, answer.status)
        except (OSError, ValueError) as error:  # the latter: the URL is malformed
            raise Unavailable(f"No answer: {type(error).__name__}") from error
        return answer

    def deliver(
        self, url: str, body: bytes, headers: Mapping[str, str], timeout: timedelta
    ) -> Answer:
        """Post bytes that may arrive twice, outside of any trace.

        Raises:
            OSError: there was no answer; a TimeoutError: none within `timeout`.
            ValueError: the URL or a header is malformed.
        """
        route = self._route(url)
        request = route.request("POST", {**self._agent, **headers}, body)
        return self._call(route, request, may_repeat=True, timeout=timeout)

    def ping(self, url: str) -> None:
        """Ask a service for any sign of life.

        Raises:
            Unavailable: there was no answer in time, or a server error.
        """
        try:
            route = self._route(url)
            answer = self._call(route, route.request("GET", self._agent), may_repeat=True)
        except (OSError, ValueError) as error:  # the latter: the URL is malformed
            raise Unavailable from error
        if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise Unavailable

    def close(self) -> None:
        """Close the connections that are kept."""
        self._pool.close()

    def _call(
        self, route: Route, request: bytes, *, may_repeat: bool, timeout: timedelta | None = None
    ) -> Answer:
        deadline = Deadline(self._timeout if timeout is None else timeout)
        kept = self._pool.take(route.place)
        if kept is not None:
            try:
                return self._ask(kept, route, request, deadline)
            except TimeoutError:
                raise
            except OSError:
                if not may_repeat:
                    raise
        opened = open_connection(route, self._resolver, lambda: self.tls, deadline)
        return self._ask(opened, route, request, deadline)

    def _ask(
        self, connection: HttpConnection, route: Route, request: bytes, deadline: Deadline
    ) -> Answer:
        try:
            return connection.ask(request, deadline)
        finally:
            self._pool.give(route.place, connection)
