"""Proxies of the environment: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY."""

from __future__ import annotations

import logging
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

logger = logging.getLogger(__name__)

DEFAULT_PORT = 80


class Proxy(NamedTuple):
    """A proxy through which calls leave; `userinfo` holds its credentials, or is empty."""

    host: str
    port: int
    userinfo: str = ""


def find_proxy(scheme: str, host: str, port: int) -> Proxy | None:
    """Return the proxy for a scheme and a host; None: the host is called directly.

    A proxy of another kind than http:// is left out, and logged: many services are reached without
    one, and where they are not the calls fail, and say so.
    """
    # Not every process calls out.
    from urllib.request import getproxies, proxy_bypass  # noqa: PLC0415

    found = getproxies()
    name = scheme if scheme in found else "all"
    if name not in found or proxy_bypass(f"{host}:{port}"):
        return None
    try:
        return _read_proxy(found[name])
    except ValueError:
        logger.warning("Proxy ignored", extra={"variable": f"{name.upper()}_PROXY"})
        return None


def _read_proxy(url: str) -> Proxy:
    """Read a proxy's URL; `http://` may be left out.

    Raises:
        ValueError: it is of another kind, or none at all.
    """
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme != "http" or not parts.hostname:
        raise ValueError
    return Proxy(parts.hostname, parts.port or DEFAULT_PORT, userinfo(parts))


def userinfo(parts: SplitResult) -> str:
    """Return the name and the password in a URL, as they are written there."""
    return parts.netloc.rpartition("@")[0]
