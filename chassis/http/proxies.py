"""The forwarding headers of trusted proxies."""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import ip_address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from flask import Flask

_PREFIX = re.compile(r"(?:/[A-Za-z0-9._~-]+)+/?")


def layer(app: Flask, *, hops: int) -> WSGIApplication:
    """Believe the nearest `hops` proxies; 0 believes none."""
    return TrustedProxies(app.wsgi_app, hops) if hops else app.wsgi_app


class TrustedProxies:
    """WSGI middleware that takes client, scheme and prefix from the headers of proxies.

    Each proxy appends an entry to the header, so only the last entries are those of trusted
    proxies. An entry that is no address changes nothing: the proxy then counts as the client.

    Args:
        application: The application to serve.
        hops: How many proxies are ours, at least 1.
    """

    def __init__(self, application: WSGIApplication, hops: int) -> None:
        self._application = application
        self._hops = hops

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve a request."""
        client = read_address(self._noted(environ, "FOR"))
        if client is not None:
            environ["REMOTE_ADDR"] = client
        scheme = self._noted(environ, "PROTO").lower()
        if scheme in {"http", "https"}:
            environ["wsgi.url_scheme"] = scheme
        prefix = self._noted(environ, "PREFIX")
        if _PREFIX.fullmatch(prefix):
            environ["SCRIPT_NAME"] = prefix.rstrip("/")
        return self._application(environ, start_response)

    def _noted(self, environ: WSGIEnvironment, what: str) -> str:
        """Return the entry of the first of our proxies; empty if there is none."""
        values = environ.get(f"HTTP_X_FORWARDED_{what}", "").split(",")
        return values[-self._hops].strip() if len(values) >= self._hops else ""


def read_address(text: str) -> str | None:
    """Return the IP address of an X-Forwarded-For entry, without the port that it may have."""
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])  # a zone is any text, and only the proxy's own
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)
