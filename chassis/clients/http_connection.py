"""One connection to another service: opened, asked and closed, each by a deadline."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from http import HTTPStatus

from chassis.clients.http_answer import Answer, AnswerReader
from chassis.clients.http_route import Route
from chassis.network.deadline import Deadline
from chassis.network.resolver import Resolver
from chassis.network.sockets import ConnectError, connect, is_quiet, receive, send_all

# So long the end of a body is waited for, once the status is known. A new connection takes
# about as long.
BODY_PATIENCE = timedelta(seconds=0.25)


class HttpConnection:
    """A connection over which one request goes at a time.

    No call outlasts its deadline: before each step the socket is told how long is left, so
    the other side cannot start it anew with a byte a second, or with interim answers.

    Attributes:
        is_kept: Whether another request may follow.
    """

    def __init__(self, peer: socket.socket) -> None:
        self.is_kept = False
        self._peer = peer

    def ask(self, request: bytes, deadline: Deadline) -> Answer:
        """Send a request and return the answer to it.

        Raises:
            OSError: there was none; a TimeoutError: none in time.
        """
        self.is_kept = False
        reader = AnswerReader()
        send_all(self._peer, request, deadline)
        answer = self._read_head(reader, deadline)
        # The status says it all: whatever happens to the body changes nothing.
        with suppress(OSError):
            self._read_body(reader, deadline.within(BODY_PATIENCE))
        self.is_kept = reader.is_clean
        return answer

    def is_quiet(self) -> bool:
        """Tell whether the other side has neither hung up nor said what nobody asked for."""
        return is_quiet(self._peer)

    def close(self) -> None:
        """Hang up, without waiting."""
        self._peer.close()

    def secure(self, tls: ssl.SSLContext, host: str, deadline: Deadline) -> None:
        """Speak TLS from now on.

        Raises:
            OSError: the other side does not, or is not who it should be.
        """
        self._peer.settimeout(deadline.remaining())
        self._peer = tls.wrap_socket(self._peer, server_hostname=host)

    def _read_head(self, reader: AnswerReader, deadline: Deadline) -> Answer:
        while reader.answer is None:
            reader.feed(receive(self._peer, deadline))
        return reader.answer

    def _read_body(self, reader: AnswerReader, deadline: Deadline) -> None:
        while not reader.is_over:
            reader.feed(receive(self._peer, deadline))


def open_connection(
    route: Route, resolver: Resolver, tls: Callable[[], ssl.SSLContext], deadline: Deadline
) -> HttpConnection:
    """Connect on a route, through its proxy where it has one.

    Raises:
        ConnectError: there is no connection.
        TimeoutError: there was none in time.
        UnicodeError: no name server could know such a host.
    """
    hop = route.proxy or route
    try:
        addresses = resolver.addresses(hop.host, hop.port, deadline)
        connection = HttpConnection(connect(addresses, deadline))
        if route.is_secure:
            _secure(connection, route, tls(), deadline)
    except TimeoutError:
        raise
    except OSError as error:
        raise ConnectError from error
    return connection


def _secure(
    connection: HttpConnection, route: Route, tls: ssl.SSLContext, deadline: Deadline
) -> None:
    try:
        if route.proxy is not None:
            _pass_through(connection, route, deadline)
        connection.secure(tls, route.host, deadline)
    except BaseException:
        connection.close()
        raise


def _pass_through(connection: HttpConnection, route: Route, deadline: Deadline) -> None:
    """Ask the proxy to connect to the service and to hand on all that follows."""
    answer = connection.ask(route.tunnel(), deadline)
    if answer.status != HTTPStatus.OK:
        raise ConnectError
