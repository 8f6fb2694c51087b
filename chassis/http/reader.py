"""Requests, parsed from the bytes of a connection."""

from __future__ import annotations

import re
from collections import deque
from http import HTTPStatus
from io import BytesIO
from typing import Any

from httptools import (
    HttpParserError,
    HttpParserInvalidMethodError,
    HttpParserUpgrade,
    HttpRequestParser,
)

from chassis.http.head import (
    CODING,
    LENGTH,
    METHODS,
    Rejected,
    body_length,
    describe,
    is_host,
    keeps_connection,
    key_of,
    take_expectation,
)
from chassis.http.request import Limits, Refused, Request
from chassis.http.upload import Upload

OTHER = "_OTHER"

# Bytes that are parsed at a time: a long pipeline would otherwise become many requests at once.
SLICE_BYTES = 4096
_UNKNOWN_METHOD = re.compile(
    rb"^(?!(?:%b) )[!#$%%&'*+.^_`|~0-9A-Za-z-]+ [!-~]+ HTTP/1\.[01]\r$"
    % "|".join(sorted(METHODS)).encode(),
    re.MULTILINE,
)


class Reader:
    """Parses the bytes of one connection, each once.

    The work is proportional to the number of new bytes, however they are cut into pieces. No
    input makes this class raise.

    Args:
        base: The variables that the environs of all requests of the connection share.
        limits: The largest sizes that are accepted.

    Attributes:
        arrived: The requests, and perhaps a refusal at the end, in the order of arrival.
        is_over: Whether reading has ended.
    """

    def __init__(self, base: dict[str, Any], limits: Limits) -> None:
        self.arrived: deque[Request | Refused] = deque()
        self.is_over = False
        self._base = base
        self._limits = limits
        self._parser: Any = HttpRequestParser(self)
        self._data = b""
        self._at = 0
        self._line = bytearray()  # the part of a head that has no line end yet
        self._piece = b""
        self._content = bytearray()  # in one: tiny pieces would take many times their size
        self._host: str | None = None
        self._status = HTTPStatus.BAD_REQUEST
        self._is_in_body = False
        self._is_repeated = False
        self._head_bytes: int
        self._body_bytes: int
        self._idle_bytes: int  # since the last byte of content
        self.on_message_begin()
        self._has_begun = False

    @property
    def has_begun(self) -> bool:
        """Whether a request has arrived in part."""
        return self._has_begun or bool(self._line.strip(b"\r"))

    @property
    def method(self) -> str:
        """The method of the request that is arriving; a stand-in while it is unknown."""
        if not self._has_begun or not self._target:
            return OTHER
        # An offer to upgrade leaves a parser that knows of another method.
        known = self._environ.get("REQUEST_METHOD") or self._parser.get_method().decode("latin-1")
        return known if known in METHODS else OTHER

    def feed(self, data: bytes) -> None:
        """Take in bytes that have arrived."""
        self._data = self._data[self._at :] + data if self._at < len(self._data) else data
        self._at = 0
        self.go_on()

    def go_on(self) -> None:
        """Parse the bytes that were taken in, up to the next request."""
        while self._at < len(self._data) and (self._upload is not None or not self.arrived):
            if self.is_over:
                self._data = b""
                return
            piece = self._data[self._at : self._at + SLICE_BYTES]
            self._at += len(piece)
            self._parse(piece)

    def end(self) -> None:
        """Note that no more bytes will come; a request that has arrived in part is refused."""
        if self._upload is not None or self.has_begun:
            self._refuse()
        self.is_over = True

    def close(self) -> None:
        """Drop the parser, which holds a reference to this object."""
        self.is_over = True
        self._parser = None

    def _parse(self, piece: bytes) -> None:
        """Feed the head in whole lines, so that the parser reads no line twice."""
        if not self._is_in_body:
            end = piece.rfind(b"\n") + 1
            if end:
                line = bytes(self._line)
                self._line.clear()
                self._feed(line + piece[:end])
            piece = piece[end:]
        if self._is_in_body and piece:
            self._feed(piece)
        elif piece and not self.is_over:
            self._line += piece
            if len(self._line) > self._limits.field:
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    def _feed(self, piece: bytes) -> None:
        if self.is_over:
            return
        self._piece = piece
        content = self._content_bytes
        try:
            self._parser.feed_data(piece)
        except HttpParserUpgrade as upgrade:
            self._ignore_upgrade(piece[upgrade.args[0] :])
        except HttpParserError as error:
            if isinstance(error, HttpParserInvalidMethodError) and _UNKNOWN_METHOD.search(piece):
                self._status = HTTPStatus.NOT_IMPLEMENTED
            self._refuse(self._status)
        else:
            self._bound(len(piece), is_content=self._content_bytes != content)

    def _bound(self, size: int, *, is_content: bool) -> None:
        """Refuse a head without an end, and too many bytes around the content of a chunked body."""
        if not self._is_in_body:
            self._head_bytes += size
            # Twice as much: fields are counted one by one, this bounds what is between them.
            if self._head_bytes > 2 * self._limits.head and self._has_begun:
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
            return
        self._body_bytes += size
        self._idle_bytes = 0 if is_content else self._idle_bytes + size
        if self._idle_bytes > self._limits.field:  # the line of a chunk, or trailers
            self._refuse()
        elif self._upload is None and self._body_bytes > 2 * self._limits.body + SLICE_BYTES:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)

    def _refuse(self, status: HTTPStatus = HTTPStatus.BAD_REQUEST) -> None:
        """Stop reading; an application that already has the head finds its body broken."""
        if self.is_over:
            return
        self.is_over = True
        if self._upload is not None:
            self._upload.give_up()
            return
        if status is HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE and not self._has_begun:
            status = HTTPStatus.REQUEST_URI_TOO_LONG
        self.arrived.append(Refused(status, self.method))

    def _ignore_upgrade(self, rest: bytes) -> None:
        """Read on as if the client had not offered to upgrade; the parser would stop here."""
        coding, length = self._environ.get(CODING), self._environ.get(LENGTH, 0)
        framing = f"Content-Length: {length}" if coding is None else "Transfer-Encoding: chunked"
        self._parser = HttpRequestParser(self)
        self._feed(f"POST / HTTP/1.1\r\n{framing}\r\n\r\n".encode() + rest)

    # The parser calls these methods. An exception ends its work, and goes no further.

    def on_message_begin(self) -> None:
        """Begin a request."""
        if self._is_repeated:
            return
        self._has_begun = True
        self._environ = self._base.copy()
        self._target = b""
        self._fields = self._field_bytes = self._head_bytes = 0
        self._body_bytes = self._idle_bytes = 0
        self._content_bytes = 0
        self._upload: Upload | None = None

    def on_url(self, target: bytes) -> None:
        """Take in the target, or a part of it."""
        if self._is_repeated:
            return
        self._target += target
        if len(self._target) > self._limits.target:
            self._reject(HTTPStatus.REQUEST_URI_TOO_LONG)
        if self._target + b" RTSP/" in self._piece:  # the parser takes RTSP for HTTP
            self._reject(HTTPStatus.BAD_REQUEST)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take in a field of the head; trailers are ignored."""
        if self._is_in_body or self._is_repeated:
            return
        size = len(name) + len(value)
        self._fields += 1
        self._field_bytes += size
        if size > self._limits.field or self._are_fields_too_large():
            self._reject(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        key = key_of(name)
        if key:
            text = value.decode("latin-1").rstrip(" \t")
            given = self._environ.get(key)
            self._environ[key] = text if given is None else f"{given},{text}"

    def _are_fields_too_large(self) -> bool:
        return self._fields > self._limits.fields or self._field_bytes > self._limits.head

    def on_headers_complete(self) -> None:
        """Judge the head."""
        self._is_in_body = True
        if self._is_repeated:
            self._is_repeated = False
            return
        environ, parser = self._environ, self._parser
        method, version = parser.get_method().decode("latin-1"), parser.get_http_version()
        try:
            self._judge_host(environ.get("HTTP_HOST"), is_needed=version == "1.1")
            describe(environ, method, version, self._target)
            length, is_asked_for = body_length(environ), take_expectation(environ)
        except Rejected as rejected:
            self._reject(rejected.status)
        is_small = length is None or length <= self._limits.body
        if not is_small or (is_asked_for and length != 0):
            self._hand_over(Upload(is_asked_for=is_asked_for, is_small=is_small))
        self._is_repeated = "HTTP_UPGRADE" in environ and parser.should_upgrade()

    def _judge_host(self, host: str | None, *, is_needed: bool) -> None:
        if host is None:
            if is_needed:
                raise Rejected
        elif host != self._host:
            if not is_host(host):
                raise Rejected
            self._host = host

    def _reject(self, status: HTTPStatus) -> None:
        self._status = status
        raise Rejected(status)

    def on_body(self, piece: bytes) -> None:
        """Take in content."""
        self._content_bytes += len(piece)
        is_large = self._content_bytes > self._limits.body
        if self._upload is not None:
            self._upload.add(piece)
            self._upload.is_small &= not is_large
            return
        self._content += piece
        if is_large:
            self._hand_over(Upload(self._content))
            self._content.clear()

    def _hand_over(self, upload: Upload) -> None:
        """Let the application read the body, or refuse it, while it arrives."""
        self._upload = upload
        self._environ["wsgi.input"] = upload
        self.arrived.append(Request(self._environ, keeps_connection(self._environ), upload))

    def on_message_complete(self) -> None:
        """End a request."""
        if self._is_repeated:
            return
        self._is_in_body = self._has_begun = False
        if self._upload is not None:
            self._upload.is_whole = True
            self._upload = None
            return
        environ = self._environ
        if CODING in environ:
            del environ[CODING]  # the length is known by now
            environ[LENGTH] = str(self._content_bytes)
        environ["wsgi.input"] = BytesIO(self._content)
        self._content.clear()
        self.arrived.append(Request(environ, keeps_connection(environ)))
