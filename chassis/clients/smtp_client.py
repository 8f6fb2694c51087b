"""E-mails handed to a mail server over SMTP, each with one deadline for all of it."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

from chassis.clients.connection_pool import ConnectionPool
from chassis.clients.smtp_connection import (
    Mail,
    SmtpConnection,
    Stale,
    open_connection,
    open_session,
)
from chassis.clients.smtp_server import SmtpRefusal, SmtpServer
from chassis.errors import Unavailable
from chassis.network.deadline import Deadline
from chassis.network.resolver import LookUp, Resolver, look_up
from chassis.once import once_property

# Servers count those who connect and say nothing; probes come every few seconds, from each pod.
PING_SECONDS = 30.0
# A refusal of all e-mails is remembered until one is taken, or for twice the longest pause between
# two tries: after that there is none to try.
REFUSED_SECONDS = 600.0
PLACE = "server"


class SmtpClient:
    """Hands e-mails to one server, on kept connections, which are opened on first use.

    Args:
        server: The mail server.
        timeout: How long an e-mail may take: from the name's look-up to the last reply.
        ping_timeout: How long `ping` may take.
        look_up: Returns the addresses of a host and a port; raises OSError.
        trust: Makes the context of TLS; raises OSError.
        clock: Returns monotonic seconds.
    """

    def __init__(  # noqa: PLR0913 - what a client is made of, by name
        self,
        server: SmtpServer,
        *,
        timeout: timedelta,
        ping_timeout: timedelta,
        look_up: LookUp = look_up,
        trust: Callable[[], ssl.SSLContext] = ssl.create_default_context,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._server = server
        self._timeout = timeout
        self._ping_timeout = ping_timeout
        self._trust = trust
        self._clock = clock
        self._resolver = Resolver(look_up)
        self._pool: ConnectionPool[SmtpConnection] = ConnectionPool()
        self._refused_until = 0.0
        self._ping_lock = threading.Lock()
        self._ping_due = 0.0
        self._ping_failure: Exception | None = None

    @once_property
    def tls(self) -> ssl.SSLContext:
        """The certificates that are trusted; reading the system's costs milliseconds."""
        return self._trust()

    def deliver(self, mail: Mail) -> None:
        """Hand over an e-mail.

        Raises:
            SmtpRefusal: the server does not take it.
            Undeliverable: the server has no way for such an address.
            OSError: there was no answer; a TimeoutError: none in time.
            UnicodeError: no name server could know such a host.
        """
        try:
            self._deliver(mail, Deadline(self._timeout))
        except SmtpRefusal as refusal:
            if refusal.concerns_all and refusal.is_final:
                self._refused_until = self._clock() + REFUSED_SECONDS
            raise
        self._refused_until = 0.0

    def ping(self) -> None:
        """Read the server's banner, once in a while however often this is called.

        Raises:
            Unavailable: there was none, or the server refuses all e-mails.
        """
        with self._ping_lock:
            if self._clock() >= self._ping_due:
                self._ping_failure = self._ask()
                self._ping_due = self._clock() + PING_SECONDS
            failure = self._ping_failure
        if failure is not None:
            raise Unavailable from failure
        if self._clock() < self._refused_until:
            raise Unavailable("The mail server refuses all e-mails")

    def close(self) -> None:
        """Close the connections that are kept."""
        self._pool.close()

    def _deliver(self, mail: Mail, deadline: Deadline) -> None:
        with suppress(Stale):
            if kept := self._pool.take(PLACE):
                self._hand_over(kept, mail, deadline)
                return
        opened = open_connection(self._server, self._resolver, lambda: self.tls, deadline)
        self._hand_over(opened, mail, deadline)

    def _hand_over(self, connection: SmtpConnection, mail: Mail, deadline: Deadline) -> None:
        try:
            connection.deliver(mail, deadline)
        finally:
            self._pool.give(PLACE, connection)

    def _ask(self) -> Exception | None:
        """Return why there is no banner; None: there is one."""
        deadline = Deadline(self._ping_timeout)
        try:
            session = open_session(self._server, self._resolver, lambda: self.tls, deadline)
        except (OSError, UnicodeError, SmtpRefusal) as error:
            return error
        SmtpConnection(session).close()
        return None
