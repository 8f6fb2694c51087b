"""A mail server as a URL names it, and its refusals."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self
from urllib.parse import unquote, urlsplit

from chassis.clients.http_route import to_ascii

# Of an enhanced status (RFC 3463). The rest of a reply is not looked at: it may hold addresses.
_STATUS = re.compile(rb"([245]\.\d{1,3}\.\d{1,3})(?:\s|$)")
_PERMANENT = 500
# Codes that speak of no single e-mail: the server is about to end the connection, wants TLS or a
# log-in first, or does not follow the conversation.
_OF_ALL = {421, 503, 530, 534, 535, 538}


class Security(StrEnum):
    """When TLS begins, by the scheme of a URL."""

    NONE = "smtp"
    STARTTLS = "smtp+starttls"
    IMPLICIT = "smtps"


PORTS = {Security.NONE: 25, Security.STARTTLS: 587, Security.IMPLICIT: 465}


@dataclass(frozen=True, slots=True, kw_only=True)
class SmtpServer:
    """A mail server.

    Attributes:
        name: Empty: nobody logs in.
    """

    host: str
    port: int
    security: Security
    name: str = ""
    password: str = field(default="", repr=False)

    @classmethod
    def at(cls, url: str) -> Self:
        """Read a URL such as smtps://name:password@host:port.

        Raises:
            ValueError: it is of another kind.
        """
        parts = urlsplit(url)
        if not parts.hostname:
            raise ValueError(parts.scheme)
        security = Security(parts.scheme)
        return cls(
            host=parts.hostname,
            port=parts.port or PORTS[security],
            security=security,
            name=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
        )

    def ascii_host(self) -> str:
        """Return the host as name servers and certificates know it; raises as `to_ascii` does."""
        return to_ascii(self.host)


class Concern(StrEnum):
    """The subject of a refusal: all e-mails, or one alone, for its recipient or its content."""

    CONNECTION = "connection"
    LOG_IN = "log-in"
    SENDER = "sender"
    RECIPIENT = "recipient"
    MESSAGE = "message"


class SmtpRefusal(Exception):
    """A mail server said no. The text holds its codes, and none of its words.

    Attributes:
        concerns_all: Whether the next e-mail would be refused as well.
        is_final: Whether trying again is of no use.
    """

    def __init__(self, concern: Concern, code: int, reply: bytes = b"") -> None:
        found = _STATUS.match(reply)
        status = f" {found[1].decode('ascii')}" if found else ""
        super().__init__(f"The mail server refused the {concern}: {code}{status}")
        self.code = code
        self.concerns_all = code in _OF_ALL or concern not in {Concern.RECIPIENT, Concern.MESSAGE}
        self.is_final = code >= _PERMANENT


class Unsupported(SmtpRefusal):
    """The mail server lacks an extension without which nothing may be sent to it."""

    def __init__(self, extension: str) -> None:
        super().__init__(Concern.CONNECTION, _PERMANENT)
        self.args = (f"The mail server does not offer {extension}",)
