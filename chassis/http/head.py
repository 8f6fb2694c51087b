"""The meaning of a request's head: target, host, and where the body ends."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote_to_bytes

from httptools import HttpParserInvalidURLError, parse_url

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"})
CODING = "HTTP_TRANSFER_ENCODING"
LENGTH = "CONTENT_LENGTH"

_HOST = re.compile(r"(?:[\w.~!$&'()*+;=%-]+|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?", re.ASCII)

_HOST_LENGTH = 253 + len(":65535")  # of a name (RFC 1035, 2.3.4), and a port
_LABEL_LENGTH = 63

# Header names in the spelling of clients. Bounded, because clients can invent any number.
_MOST_NAMES = 256
_keys: dict[bytes, str] = {}


class Rejected(Exception):
    """The request is answered with this status and not read further."""

    def __init__(self, status: HTTPStatus = HTTPStatus.BAD_REQUEST) -> None:
        super().__init__(status)
        self.status = status


def key_of(name: bytes) -> str:
    """Return a header's key in the environ; empty for a name that could pass for another.

    `X_Name` and `X-Name` have the same key, and a proxy that guards the one may pass the other.
    """
    key = _keys.get(name)
    if key is None:
        key = _make_key(name.upper().decode("latin-1"))
        if len(_keys) < _MOST_NAMES:
            _keys[name] = key
    return key


def _make_key(name: str) -> str:
    if "_" in name:
        return ""
    if name in {"CONTENT-TYPE", "CONTENT-LENGTH"}:
        return name.replace("-", "_")
    return "HTTP_" + name.replace("-", "_")


def describe(environ: dict[str, Any], method: str, version: str, target: bytes) -> None:
    """Put the request line into the environ.

    Raises:
        Rejected: the line is not HTTP/1.0 or 1.1, or its target cannot be served.
    """
    if version not in {"1.1", "1.0"}:
        raise Rejected
    if method not in METHODS:
        raise Rejected(HTTPStatus.NOT_IMPLEMENTED)
    environ["REQUEST_METHOD"] = method
    environ["SERVER_PROTOCOL"] = "HTTP/1.1" if version == "1.1" else "HTTP/1.0"
    environ["RAW_URI"] = target.decode("latin-1")
    if not target.startswith(b"/"):
        target = _origin_form(target, environ)
    path, _, query = target.partition(b"#")[0].partition(b"?")
    if b"%" in path:
        path = unquote_to_bytes(path)
    environ["PATH_INFO"] = path.decode("latin-1")
    environ["QUERY_STRING"] = query.decode("latin-1")


def _origin_form(target: bytes, environ: dict[str, Any]) -> bytes:
    """Take the host out of an absolute target; it overrides the Host field (RFC 9112, 3.2.2)."""
    if target == b"*" and environ["REQUEST_METHOD"] == "OPTIONS":
        return target
    try:
        url = parse_url(target)
    except HttpParserInvalidURLError:
        raise Rejected from None
    authority = re.split(rb"[/?#]", target.partition(b"//")[2], maxsplit=1)[0].decode("latin-1")
    if url.schema.lower() not in {b"http", b"https"} or not is_host(authority):
        raise Rejected
    environ["HTTP_HOST"] = authority
    return (url.path or b"/") + (b"?" + url.query if url.query else b"")


def is_host(value: str) -> bool:
    """Tell whether a Host field names one host, with or without a port."""
    if len(value) > _HOST_LENGTH or _HOST.fullmatch(value) is None:
        return False
    return all(len(label) <= _LABEL_LENGTH for label in value.partition(":")[0].split("."))


def keeps_connection(environ: dict[str, Any]) -> bool:
    """Tell whether the client wants to keep the connection after the answer."""
    is_new: bool = environ["SERVER_PROTOCOL"] == "HTTP/1.1"
    connection: str | None = environ.get("HTTP_CONNECTION")
    if connection is None:
        return is_new
    options = {each.strip() for each in connection.lower().split(",")}
    return (is_new or "keep-alive" in options) and "close" not in options


def body_length(environ: dict[str, Any]) -> int | None:
    """Return the announced length of the body; None when it is chunked.

    Raises:
        Rejected: the body has a transfer coding that this server does not know.
    """
    coding = environ.get(CODING)
    if coding is None:
        return int(environ.get(LENGTH) or 0)
    if environ["SERVER_PROTOCOL"] != "HTTP/1.1" or LENGTH in environ:
        raise Rejected
    if coding.lower() != "chunked":
        raise Rejected(HTTPStatus.NOT_IMPLEMENTED)
    return None


def take_expectation(environ: dict[str, Any]) -> bool:
    """Tell whether the client waits for 100 Continue before it sends the body (RFC 9110, 10.1.1).

    Raises:
        Rejected: the client expects something else.
    """
    expectation = environ.pop("HTTP_EXPECT", None)
    if expectation is None or environ["SERVER_PROTOCOL"] != "HTTP/1.1":
        return False
    if expectation.lower() != "100-continue":
        raise Rejected(HTTPStatus.EXPECTATION_FAILED)
    return True
