"""The one answer to a request; its head says whether the connection is kept."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from email.utils import formatdate
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from chassis.http.request import Request

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

logger = logging.getLogger(__name__)

Headers = list[tuple[str, str]]

PIECE_BYTES = 64 * 1024
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

# The server alone sets these fields; those of an application are dropped (RFC 9110, 7.6.1).
_OURS = frozenset({"connection", "date", "keep-alive", "transfer-encoding", "upgrade"})
_BODILESS = frozenset({"204", "304"})


class InvalidAnswer(Exception):
    """The application's answer cannot be sent, or is shorter than it announced."""


class Answer:
    """An application's answer, made piece by piece.

    Args:
        request: The request to answer.
        may_keep: Tells whether the connection may be kept; called once, for the head.
    """

    def __init__(self, request: Request, may_keep: Callable[[], bool]) -> None:
        self.has_head = False
        self.is_started = False
        self.is_over = False
        self.closes = True
        self._request = request
        self._may_keep = may_keep
        self._status = ""
        self._headers: Headers = []
        self._written: list[bytes] = []
        self._parts: Iterable[bytes] = ()
        self._iterator: Iterator[bytes] = iter(())
        self._left: int | None = None  # of the length that was announced
        self._is_chunked = False

    @property
    def method(self) -> str:
        """The method of the request."""
        return str(self._request.environ["REQUEST_METHOD"])

    def start(
        self, status: str, headers: Headers, exc_info: Any = None, /
    ) -> Callable[[bytes], Any]:
        """Be WSGI's `start_response`."""
        if self.has_head and exc_info is not None:
            raise exc_info[1]
        self.is_started = True
        self._status, self._headers = status, headers
        return self._written.append

    def begin(self, application: WSGIApplication) -> list[bytes]:
        """Call the application; return the head, and the body or its first piece.

        A large body is not copied, because many answers may share it.

        Raises:
            InvalidAnswer: the head cannot be sent.
        """
        self._parts = application(self._request.environ, self.start)
        self._iterator = iter(self._parts)
        body = self._collect()
        if not self.is_started:
            raise InvalidAnswer("start_response was not called")
        head, body = self._make_head(len(body)), self._frame(body)
        self.has_head = True
        if self.is_over:
            self.close()
        return [head + body] if len(body) <= PIECE_BYTES else [head, body]

    def more(self) -> list[bytes]:
        """Return the next piece, which ends the answer when it is the last.

        Raises:
            InvalidAnswer: the answer ends before its announced end.
        """
        data = self._frame(self._collect())
        if self.is_over:
            self.close()
        return [data]

    def close(self) -> None:
        """Let the application clean up, as soon as the answer is made, even if it is unread."""
        self.is_over = True
        parts, self._parts = self._parts, ()
        if hasattr(parts, "close"):
            try:
                parts.close()
            except Exception as error:  # noqa: BLE001 - the application's, of any kind
                logger.warning("Answer not closed", extra={"error_type": type(error).__name__})

    def _collect(self) -> bytes:
        pieces, self._written = self._written, []
        size = sum(map(len, pieces))
        for piece in self._iterator:
            pieces.append(piece)
            size += len(piece)
            if size >= PIECE_BYTES:
                break
        else:
            self.is_over = True
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _make_head(self, size: int) -> bytes:
        length, lines = None, []
        for name, value in self._headers:
            kind = name.lower()
            if kind in _OURS:
                continue
            if kind == "content-length":
                length = int(value)
            lines.append(f"{name}: {value}\r\n")
        is_old = self._request.environ["SERVER_PROTOCOL"] == "HTTP/1.0"
        lines += self._framing(length, size, is_old=is_old)
        self.closes = not (self._keeps() and self._may_keep())
        if self.closes:
            lines.append("Connection: close\r\n")
        elif is_old:
            lines.append("Connection: keep-alive\r\n")
        return join_head(self._status, lines)

    def _keeps(self) -> bool:
        has_end = self._is_chunked or self._left is not None
        return has_end and self._request.keeps and not self._request.is_unread

    def _framing(self, length: int | None, size: int, *, is_old: bool) -> list[str]:
        """Decide where the body ends; return the field that says so, if it is missing."""
        is_head = self.method == "HEAD"
        if is_head or self._status[:3] in _BODILESS:
            self._left, self.is_over = 0, True
            return []
        if length is None and not self.is_over:
            self._is_chunked = not is_old
            return [] if is_old else ["Transfer-Encoding: chunked\r\n"]
        self._left = size if length is None else length
        if self.is_over and size < self._left:
            raise InvalidAnswer("the body is shorter than its Content-Length")
        return [f"Content-Length: {size}\r\n"] if length is None else []

    def _frame(self, body: bytes) -> bytes:
        if self._is_chunked:
            chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            return chunk + b"0\r\n\r\n" if self.is_over else chunk
        if self._left is None:
            return body
        if len(body) > self._left:
            body = body[: self._left]
        self._left -= len(body)
        if self._left == 0:
            self.is_over = True
        elif self.is_over:
            raise InvalidAnswer("the body is shorter than its Content-Length")
        return body


def join_head(status: str, lines: list[str]) -> bytes:
    """Return a head as bytes.

    Raises:
        InvalidAnswer: a field holds a line end, which would begin another field.
    """
    lines.append(f"Date: {_date(int(time.time()))}\r\n\r\n")
    text = f"HTTP/1.1 {status}\r\n{''.join(lines)}"
    ends = len(lines) + 2
    if text.count("\r") != ends or text.count("\n") != ends or "\0" in text:
        raise InvalidAnswer("a header contains a line end")
    return text.encode("latin-1")


def refuse(status: str, headers: Headers, body: bytes, method: str) -> bytes:
    """Return the answer to bytes that are no request; the connection ends with it."""
    lines = [f"{name}: {value}\r\n" for name, value in headers]
    lines += [f"Content-Length: {len(body)}\r\n", "Connection: close\r\n"]
    return join_head(status, lines) + (b"" if method == "HEAD" else body)


@lru_cache(maxsize=2)
def _date(second: int) -> str:
    return formatdate(second, usegmt=True)
