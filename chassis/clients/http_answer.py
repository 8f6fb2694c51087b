"""Answers of other services: the status decides, and little of the rest is read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, NamedTuple

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

# Of all heads together, those of interim answers included.
HEAD_BYTES = 65_536
# Of the body; one that is longer costs the connection, which is cheaper than reading it.
BODY_BYTES = 16_384
LONGEST_WAIT = timedelta(days=1)


class Answer(NamedTuple):
    """The answer of another service, as far as it is read.

    `retry_after` is the time for which it asks to be left alone, a day at most.
    """

    status: int
    retry_after: timedelta | None = None


class UnreadableAnswer(ConnectionError):
    """The other side does not speak HTTP, or its head is too long."""


class AnswerReader:
    """Reads one answer from the bytes that arrive; interim answers (1xx) are passed over.

    The body is counted, neither kept nor decoded.

    Attributes:
        answer: The status and what belongs to it, once the head is whole.
        is_over: Whether nothing more needs to be read.
        is_clean: Whether the answer ended where it should: the connection can be used again.
    """

    def __init__(self) -> None:
        self.answer: Answer | None = None
        self.is_over = False
        self.is_clean = False
        self._parser: Any = HttpResponseParser(self)
        self._head_bytes = self._body_bytes = 0
        self._retry_after = b""

    def feed(self, data: bytes) -> None:
        """Read bytes that arrived, at least one.

        Raises:
            UnreadableAnswer: this is no head of an answer.
        """
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            self._stop()
            if self.answer is None:
                raise UnreadableAnswer from error
        if self.answer is None:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES:
                raise UnreadableAnswer

    def on_message_begin(self) -> None:
        """Begin an answer; behind the final one there is none, since nothing was asked."""
        if self.answer is not None:
            self._stop()
        self._retry_after = b""

    def on_header(self, name: bytes, value: bytes) -> None:
        """Note how long to wait."""
        if name.lower() == b"retry-after":
            self._retry_after = value

    def on_headers_complete(self) -> None:
        """Take the head, unless an interim answer's."""
        status = self._parser.get_status_code()
        if self.answer is None and status >= HTTPStatus.OK:
            wait = parse_retry_after(self._retry_after.decode("latin-1"), datetime.now(UTC))
            self.answer = Answer(status, wait)
            self.is_over = not self._parser.should_keep_alive()

    def on_body(self, data: bytes) -> None:
        """Count."""
        self._body_bytes += len(data)
        if self._body_bytes > BODY_BYTES:
            self.is_over = True

    def on_message_complete(self) -> None:
        """End the answer, unless it is an interim one."""
        if self.answer is not None and not self.is_over:
            self.is_over = self.is_clean = True

    def _stop(self) -> None:
        self.is_over, self.is_clean = True, False


def parse_retry_after(value: str, now: datetime) -> timedelta | None:
    """Read a Retry-After: seconds, or a date; None for any other, and for a time that is over."""
    try:
        if value.isascii() and value.isdecimal():
            span = timedelta(seconds=min(float(value), LONGEST_WAIT.total_seconds()))
        else:
            span = min(_read_date(value) - now, LONGEST_WAIT)
    except (ValueError, OverflowError):
        return None
    return span if span > timedelta(0) else None


def _read_date(value: str) -> datetime:
    """Read a date of HTTP, which is in UTC also where its form does not say so."""
    date = parsedate_to_datetime(value)
    return date if date.tzinfo is not None else date.replace(tzinfo=UTC)
