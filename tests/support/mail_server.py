"""Mail servers: a real one that refuses on command, and one that says whatever a test wants."""

from __future__ import annotations

import email
import email.policy
import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass, field
from email.message import EmailMessage
from typing import Any, NamedTuple

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

from tests.support.ports import HOST, free_port
from tests.support.raw_http import RawService

USER, PASSWORD = "mailer", "p@ss/word"
CREDENTIALS = "mailer:p%40ss%2Fword"


class Received(NamedTuple):
    """An e-mail as the server got it; `connection` numbers the clients."""

    sender: str
    recipient: str
    content: bytes
    options: list[str]
    connection: int

    @property
    def message(self) -> EmailMessage:
        """The e-mail as a reader sees it."""
        found = email.message_from_bytes(self.content, policy=email.policy.default)
        assert isinstance(found, EmailMessage)
        return found


@dataclass
class MailServer:
    """A mail server of aiosmtpd. `answers` may change at any time.

    Args:
        tls: Certificate and key, in one file.
        scheme: Of its URL: smtp, smtps or smtp+starttls.
        needs_log_in: Whether USER and PASSWORD are asked for.
        takes_utf8: Whether addresses may go beyond ASCII.

    Attributes:
        answers: EHLO, MAIL, a recipient's address, or DATA -> a reply that is no success.
        received: The e-mails that were taken.
        logged_in: The outcome of each attempt to log in, in order.
        commands: The commands that were not refused, in order.
        connections: How many clients have come.
    """

    tls: str | None = None
    scheme: str = "smtp"
    needs_log_in: bool = False
    takes_utf8: bool = True
    answers: dict[str, str] = field(default_factory=dict)
    received: list[Received] = field(default_factory=list)
    logged_in: list[bool] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    connections: int = 0

    def __post_init__(self) -> None:
        self.port = free_port()
        context = None
        if self.tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.tls)
        self._controller = _Controller(
            self,
            ssl_context=context if self.scheme == "smtps" else None,
            tls_context=context if self.scheme == "smtp+starttls" else None,
            require_starttls=self.scheme == "smtp+starttls" and context is not None,
        )
        self._controller.start()
        self.connections = 0  # the library's own test of its server

    @property
    def url(self) -> str:
        """The URL of this server, with credentials where it wants some."""
        credentials = f"{CREDENTIALS}@" if self.needs_log_in else ""
        return f"{self.scheme}://{credentials}{HOST}:{self.port}"

    def close(self) -> None:
        """Stop serving, and hang up on everyone."""
        self._controller.stop(no_assert=True)

    def hang_up(self) -> None:
        """End the connections that are open, as servers do with those that say nothing."""
        self._controller.hang_up()

    def log_in(self, _server: Any, _session: Any, _envelope: Any, _kind: str, data: Any) -> Any:
        """Compare the name and the password that came."""
        is_right = isinstance(data, LoginPassword) and data == LoginPassword(
            USER.encode(), PASSWORD.encode()
        )
        self.logged_in.append(is_right)
        refusal = self.answers.get("AUTH")
        if refusal:
            return AuthResult(success=False, handled=False, message=refusal)
        return AuthResult(success=is_right, handled=False)

    async def handle_EHLO(  # noqa: N802 - the library looks for these names
        self, _server: Any, session: Any, _envelope: Any, hostname: str, responses: list[str]
    ) -> list[str]:
        self.commands.append(f"EHLO {hostname}")
        session.host_name = hostname
        return [self.answers["EHLO"]] if "EHLO" in self.answers else responses

    async def handle_MAIL(  # noqa: N802
        self, _server: Any, session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        self.commands.append("MAIL")
        if self.needs_log_in and not session.authenticated:
            return "530 5.7.0 log in first"
        if "MAIL" in self.answers:
            return self.answers["MAIL"]
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 fine"

    async def handle_RCPT(  # noqa: N802
        self, _server: Any, _session: Any, envelope: Any, address: str, _options: list[str]
    ) -> str:
        self.commands.append("RCPT")
        if address in self.answers:
            return self.answers[address]
        envelope.rcpt_tos.append(address)
        return "250 fine"

    async def handle_DATA(self, server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802
        self.commands.append("DATA")
        if "DATA" in self.answers:
            return self.answers["DATA"]
        (recipient,) = envelope.rcpt_tos
        self.received.append(
            Received(
                envelope.mail_from,
                recipient,
                envelope.original_content,
                list(envelope.mail_options),
                server.number,
            )
        )
        return "250 taken"


class _Controller(Controller):
    def __init__(self, server: MailServer, **options: Any) -> None:
        self._server = server
        self._open: set[Any] = set()
        super().__init__(
            server,
            hostname=HOST,
            port=server.port,
            enable_SMTPUTF8=server.takes_utf8,
            server_hostname="mail.test",
            ready_timeout=60,
            **options,
        )

    def factory(self) -> SMTP:
        server = self._server
        server.connections += 1
        wanted = {
            "authenticator": server.log_in,
            "auth_require_tls": server.scheme == "smtp+starttls",
        }
        made = _Numbered(self.handler, **(self.SMTP_kwargs | wanted), loop=self.loop)
        made.number = server.connections
        self._open.add(made)
        return made

    def hang_up(self) -> None:
        for each in self._open:
            if each.transport is not None:
                self.loop.call_soon_threadsafe(each.transport.close)


class _Numbered(SMTP):
    number = 0


class ScriptedMailServer(RawService):
    """Calls `behave` with each new connection; a mail server speaks first."""

    @property
    def server_url(self) -> str:
        """The URL of this server."""
        return f"{'smtps' if self.tls else 'smtp'}://{HOST}:{self.port}"

    def _read(self, peer: socket.socket, number: int) -> bool:
        with suppress(OSError):
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        del number
        return True


def converse(peer: socket.socket, *replies: bytes) -> None:
    """Say the first reply, and each further one to a command."""
    first, *others = replies
    peer.sendall(first)
    for reply in others:
        if not peer.recv(65_536):
            raise ConnectionResetError
        peer.sendall(reply)
