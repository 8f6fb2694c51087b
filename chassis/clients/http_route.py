"""The way to a URL: where to connect, and how requests begin."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self
from urllib.parse import SplitResult, quote, unquote_to_bytes, urlsplit

from chassis.clients.proxies import Proxy, find_proxy, userinfo

PORTS = {"http": 80, "https": 443}
# Of a path and a query: all that may stand there, and what is encoded already.
SAFE = "/?:@!$&'()*+,;=-._~%[]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """The way to one URL.

    Attributes:
        host: Of the service, in ASCII.
        port: Of the service.
        is_secure: Whether TLS is spoken.
        proxy: Through which it is reached; None: directly.
        shown: The URL without the parts that may be secret: credentials, query, fragment.
        target: Path and query.
        authority: Host and port as Host names them.
        fields: Lines of each request.
    """

    host: str
    port: int
    is_secure: bool
    proxy: Proxy | None
    shown: str
    target: str
    authority: str
    fields: str

    @classmethod
    def to(cls, url: str) -> Self:
        """Find the way to a URL.

        Raises:
            ValueError: this is no URL of HTTP.
        """
        parts = urlsplit(url)
        if parts.scheme not in PORTS or not parts.hostname:
            raise ValueError(parts.scheme)
        host = to_ascii(parts.hostname)
        port = parts.port or PORTS[parts.scheme]
        proxy = find_proxy(parts.scheme, host, port)
        is_secure = parts.scheme == "https"
        authority = _authority(host, port, PORTS[parts.scheme])
        return cls(
            host=host,
            port=port,
            is_secure=is_secure,
            proxy=proxy,
            shown=f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}",
            target=_target(parts),
            authority=authority,
            fields=_fields(authority, parts, None if is_secure else proxy),
        )

    @property
    def place(self) -> tuple[str, int, bool]:
        """The place to which a connection leads."""
        return self.host, self.port, self.is_secure

    def request(self, method: str, fields: Mapping[str, str], body: bytes = b"") -> bytes:
        """Return a request as it is sent.

        Raises:
            ValueError: a field holds a line end.
        """
        target = self.target
        if self.proxy is not None and not self.is_secure:
            target = f"http://{self.authority}{target}"
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        if lines.count("\n") != len(fields) or lines.count("\r") != len(fields):
            raise ValueError
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        head = f"{method} {target} HTTP/1.1\r\n{self.fields}{lines}{length}\r\n"
        return head.encode("latin-1") + body

    def tunnel(self) -> bytes:
        """Return the request that asks the proxy for a connection to the service."""
        place = _authority(self.host, self.port, None)
        head = (
            f"CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n{_proxy_authorization(self.proxy)}\r\n"
        )
        return head.encode("ascii")


def to_ascii(host: str) -> str:
    """Return a host as name servers know it.

    Raises:
        UnicodeError: no name server could know it.
    """
    return host if host.isascii() else host.encode("idna").decode("ascii")


def _authority(host: str, port: int, usual: int | None) -> str:
    shown = f"[{host}]" if ":" in host else host
    return shown if port == usual else f"{shown}:{port}"


def _target(parts: SplitResult) -> str:
    query = f"?{parts.query}" if parts.query else ""
    return quote(f"{parts.path or '/'}{query}", safe=SAFE)


def _fields(authority: str, parts: SplitResult, proxy: Proxy | None) -> str:
    """Return the lines of each request. Nothing of an answer is read that could be encoded."""
    credentials = userinfo(parts)
    authorization = f"Authorization: {_basic(credentials)}\r\n" if credentials else ""
    return (
        f"Host: {authority}\r\nAccept: */*\r\nAccept-Encoding: identity\r\n"
        f"{authorization}{_proxy_authorization(proxy)}"
    )


def _proxy_authorization(proxy: Proxy | None) -> str:
    if proxy is None or not proxy.userinfo:
        return ""
    return f"Proxy-Authorization: {_basic(proxy.userinfo)}\r\n"


def _basic(written: str) -> str:
    """Return the credentials of a URL as a header holds them; without a password it is empty."""
    name, _, password = written.partition(":")
    credentials = unquote_to_bytes(name) + b":" + unquote_to_bytes(password)
    return f"Basic {b64encode(credentials).decode('ascii')}"
