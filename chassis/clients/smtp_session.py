"""The commands of smtplib, over a socket that is written and read by a deadline."""

from __future__ import annotations

import re
import smtplib
import socket
import ssl

from chassis.clients.smtp_server import Concern, SmtpRefusal, Unsupported
from chassis.network.deadline import Deadline
from chassis.network.sockets import is_quiet, receive, send_all

# Of one reply, all of its lines together. smtplib bounds a line, and no number of lines.
REPLY_BYTES = 16_384
_LINE = re.compile(rb"([2-5]\d\d)(?:([ -])(.*))?")
_READY = 220
_DONE = 250
_LOGGED_IN = 235


class UnreadableReply(ConnectionError):
    """The other side does not speak SMTP, or speaks without end."""


class Session(smtplib.SMTP):
    """One connection to a mail server, on which commands follow each other.

    The library waits anew for each byte, and looks this host's name up without a limit; here each
    step takes what the deadline leaves, and the own name is the own address.

    Attributes:
        deadline: The end of the call that is under way.
    """

    def __init__(self, peer: socket.socket, deadline: Deadline) -> None:
        super().__init__(local_hostname=_literal(peer))
        self.sock = peer
        self.peer = peer
        self.deadline = deadline
        self._received = bytearray()

    def greet(self) -> None:
        """Read the banner.

        Raises:
            SmtpRefusal: the server takes nothing at the moment.
            OSError: there was none; a TimeoutError: none in time.
        """
        _expect(self.getreply(), _READY, Concern.CONNECTION)

    def introduce(self) -> None:
        """Ask for the extensions; a server without any is older than TLS."""
        _expect(self.ehlo(), _DONE, Concern.CONNECTION)

    def secure(self, tls: ssl.SSLContext, host: str) -> None:
        """Speak TLS from now on.

        Raises:
            OSError: the other side does not, or is not who it should be.
        """
        self.peer.settimeout(self.deadline.remaining())
        self.sock = self.peer = tls.wrap_socket(self.peer, server_hostname=host)

    def start_tls(self, tls: ssl.SSLContext, host: str) -> None:
        """Change over to TLS, or fail: nothing goes on without it.

        Raises:
            Unsupported: the server does not offer it.
            UnreadableReply: more came in the clear than was asked for; whoever put it there would
                have it taken for words of the server.
        """
        if not self.has_extn("starttls"):
            raise Unsupported("STARTTLS")
        _expect(self.docmd("STARTTLS"), _READY, Concern.CONNECTION)
        if self._received:
            raise UnreadableReply
        self.secure(tls, host)
        self.introduce()

    def log_in(self, name: str, password: str) -> None:
        """Authenticate, in one attempt: a second one with another mechanism counts as a guess.

        Raises:
            Unsupported: the server offers none of the mechanisms.
            SmtpRefusal: the name or the password is wrong.
            UnreadableReply: the server asks for more than the mechanism has, or for nothing.
        """
        self.user, self.password = name, password
        offered = self.esmtp_features.get("auth", "").upper().split()
        mechanisms = {"PLAIN": self.auth_plain, "LOGIN": self.auth_login}
        usable = [each for each in mechanisms if each in offered]
        if not usable:
            raise Unsupported("AUTH PLAIN or AUTH LOGIN")
        try:
            self.auth(usable[0], mechanisms[usable[0]])
        except smtplib.SMTPAuthenticationError as error:
            raise refusal_of(Concern.LOG_IN, error) from None
        except (smtplib.SMTPException, ValueError):
            # Without a cause: the words of a server that asks on and on may be our password.
            raise UnreadableReply from None

    def is_quiet(self) -> bool:
        """Tell whether the other side has neither hung up nor said what nobody asked for."""
        return self.is_in_step and is_quiet(self.peer)

    @property
    def is_in_step(self) -> bool:
        """Whether nothing has come that was not asked for."""
        return not self._received

    def send(self, s: object) -> None:
        """Send bytes, or a command."""
        data = s.encode(self.command_encoding) if isinstance(s, str) else bytes(s)  # type: ignore[call-overload]
        send_all(self.peer, data, self.deadline)

    def getreply(self) -> tuple[int, bytes]:
        """Return the code and the text of a reply, whose lines are parted by line ends.

        Raises:
            UnreadableReply: it is none, or too long.
            OSError: there was none; a TimeoutError: none in time.
        """
        lines: list[bytes] = []
        size = 0
        while True:
            line = self._read_line(REPLY_BYTES - size)
            size += len(line)
            found = _LINE.fullmatch(line.rstrip(b"\r\n"))
            if found is None:
                raise UnreadableReply
            lines.append((found[3] or b"").strip())
            if found[2] != b"-":
                return int(found[1]), b"\n".join(lines)

    def _read_line(self, limit: int) -> bytes:
        while (end := self._received.find(b"\n") + 1) == 0:
            if len(self._received) >= limit:
                raise UnreadableReply
            self._received += receive(self.peer, self.deadline)
        line = bytes(self._received[:end])
        del self._received[:end]
        if len(line) > limit:
            raise UnreadableReply
        return line


def refusal_of(concern: Concern, error: smtplib.SMTPResponseException) -> SmtpRefusal:
    """Return a refusal that the library raised as an error of its own."""
    text = error.smtp_error
    reply = text if isinstance(text, bytes) else text.encode()
    return SmtpRefusal(concern, error.smtp_code, reply)


def _expect(reply: tuple[int, bytes], code: int, concern: Concern) -> None:
    if reply[0] != code:
        raise SmtpRefusal(concern, *reply)


def _literal(peer: socket.socket) -> str:
    """Return the address of this end, as a host without a name introduces itself (RFC 5321)."""
    address = peer.getsockname()[0]
    return f"[IPv6:{address}]" if ":" in address else f"[{address}]"
