"""One connection to a mail server: opened, used for one e-mail after another, and closed."""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import NamedTuple

from chassis.clients.smtp_server import Concern, Security, SmtpRefusal, SmtpServer
from chassis.clients.smtp_session import Session, refusal_of
from chassis.errors import Undeliverable
from chassis.network.deadline import Deadline
from chassis.network.resolver import Resolver
from chassis.network.sockets import ConnectError, connect

_DONE = 250
_FORWARDED = 251
_CLOSING = 421
_GOODBYE = timedelta(seconds=0.1)


class Mail(NamedTuple):
    """An e-mail as it is handed over.

    Attributes:
        content: Its header and its body; line ends are CR LF.
        is_international: Whether an address goes beyond ASCII, which the server has to allow.
    """

    sender: str
    recipient: str
    content: bytes
    is_international: bool = False


class Stale(ConnectionError):
    """A connection that was kept has ended meanwhile; the server took nothing."""


class SmtpConnection:
    """A connection over which one e-mail goes at a time.

    Attributes:
        is_kept: Whether another e-mail may follow.
    """

    def __init__(self, session: Session) -> None:
        self.is_kept = False
        self._session = session
        self._is_used = False

    def deliver(self, mail: Mail, deadline: Deadline) -> None:
        """Hand over an e-mail.

        Raises:
            SmtpRefusal: the server does not take it.
            Undeliverable: the server has no way for such an address.
            Stale: nothing was sent.
            OSError: there was no answer, and the server may have taken it; a TimeoutError: none
                in time.
        """
        self.is_kept = False
        self._session.deadline = deadline
        options = self._options(mail)
        try:
            self._begin(mail.sender, options)
            self._address(mail.recipient)
            self._hand_over(mail.content)
        except SmtpRefusal as refusal:
            if not refusal.concerns_all:
                self._start_over()
            raise
        self._is_used = True
        self.is_kept = self._session.is_in_step

    def is_quiet(self) -> bool:
        """Tell whether the other side has neither hung up nor said what nobody asked for."""
        return self._session.is_quiet()

    def close(self) -> None:
        """Hang up, with a word and without waiting for another."""
        self._session.deadline = Deadline(_GOODBYE)
        with suppress(OSError):
            self._session.putcmd("QUIT")
        self._session.close()

    def _options(self, mail: Mail) -> list[str]:
        if not mail.is_international:
            return []
        if not self._session.has_extn("smtputf8"):
            self.is_kept = True
            raise Undeliverable("The mail server takes no address beyond ASCII")
        return ["SMTPUTF8", "BODY=8BITMIME"]

    def _begin(self, sender: str, options: list[str]) -> None:
        """Begin an e-mail; a kept connection shows only now that it has ended."""
        try:
            code, reply = self._session.mail(sender, options)
        except TimeoutError:
            raise
        except OSError:
            if self._is_used:
                raise Stale from None
            raise
        if code == _CLOSING and self._is_used:
            raise Stale
        if code != _DONE:
            raise SmtpRefusal(Concern.SENDER, code, reply)

    def _address(self, recipient: str) -> None:
        code, reply = self._session.rcpt(recipient)
        if code not in {_DONE, _FORWARDED}:
            raise SmtpRefusal(Concern.RECIPIENT, code, reply)

    def _hand_over(self, content: bytes) -> None:
        try:
            code, reply = self._session.data(content)
        except smtplib.SMTPDataError as error:
            # Without a cause: the words of a server may hold addresses.
            raise refusal_of(Concern.MESSAGE, error) from None
        if code != _DONE:
            raise SmtpRefusal(Concern.MESSAGE, code, reply)

    def _start_over(self) -> None:
        """Forget an e-mail that was refused, so that the next one may follow."""
        with suppress(OSError):
            code, _ = self._session.rset()
            self._is_used = True
            self.is_kept = code == _DONE and self._session.is_in_step


def open_connection(
    server: SmtpServer, resolver: Resolver, tls: Callable[[], ssl.SSLContext], deadline: Deadline
) -> SmtpConnection:
    """Connect to a mail server, and log in where it has a name for us.

    Raises:
        SmtpRefusal: the server wants nothing from us.
        Unsupported: it offers no TLS, or no way to log in.
        OSError: there is no connection; a TimeoutError: none in time.
        UnicodeError: no name server could know such a host.
    """
    session = open_session(server, resolver, tls, deadline)
    try:
        session.introduce()
        if server.security is Security.STARTTLS:
            session.start_tls(tls(), server.ascii_host())
        if server.name:
            session.log_in(server.name, server.password)
    except BaseException:
        session.close()
        raise
    return SmtpConnection(session)


def open_session(
    server: SmtpServer, resolver: Resolver, tls: Callable[[], ssl.SSLContext], deadline: Deadline
) -> Session:
    """Connect to a mail server and read its banner; raises as `open_connection` does."""
    addresses = resolver.addresses(server.ascii_host(), server.port, deadline)
    if not addresses:
        raise ConnectError
    session = Session(connect(addresses, deadline), deadline)
    try:
        if server.security is Security.IMPLICIT:
            session.secure(tls(), server.ascii_host())
        session.greet()
    except BaseException:
        session.close()
        raise
    return session
