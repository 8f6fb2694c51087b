"""Where a request ends in the bytes that have arrived, before anything parses them."""

from __future__ import annotations

import re

from chassis.http.web import MAX_BODY_BYTES

MAX_HEAD_BYTES = 64 * 1024
MAX_CHUNKED_BYTES = 2 * MAX_BODY_BYTES  # a body in sane chunks is hardly longer than its content

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,18})[ \t]*\r\n", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:", re.IGNORECASE)
_EXPECT = re.compile(rb"\r\nexpect:[ \t]*100-continue[ \t]*(?=\r\n)", re.IGNORECASE)
_CHUNK = re.compile(rb"([0-9a-f]{1,15})[ \t]*(?:;[^\r\n]*)?\r\n", re.IGNORECASE)


class Arrival:
    """What has arrived of a connection's next request.

    It judges where the request ends; the server's parser decides. Where they differ the
    parser meets the end of its input, and never waits for the client.
    """

    def __init__(self, data: bytes = b"") -> None:
        self.data = bytearray(data)
        self._chunk = 0  # where the first chunk begins that is not whole; 0: not known yet
        self._whole = 0  # how much the chunks before it hold
        self._content = 0  # the same, with what has arrived of it

    @property
    def head_length(self) -> int:
        """Length of the head with the empty line behind it; 0 while that is missing."""
        return self.data.find(b"\r\n\r\n") + 4 if b"\r\n\r\n" in self.data else 0

    @property
    def body_length(self) -> int:
        """Length that the head announces for the body."""
        length = _LENGTH.search(self.data, 0, self.head_length)
        return int(length[1]) if length else 0

    @property
    def is_chunked(self) -> bool:
        """Whether the body's length shows only at its end."""
        return _CHUNKED.search(self.data, 0, self.head_length) is not None

    def is_complete(self) -> bool:
        """Tell whether a thread can work on the request without waiting for its client."""
        head = self.head_length
        if not head:
            return self.has_large_head()
        if self.is_chunked:
            is_too_long = len(self.data) - head > MAX_CHUNKED_BYTES
            return self._has_last_chunk() or self.is_large() or is_too_long
        return self.is_large() or len(self.data) - head >= self.body_length

    def has_large_head(self) -> bool:
        """Tell whether there is no end of the head where there should long be one."""
        return not self.head_length and len(self.data) > MAX_HEAD_BYTES

    def is_large(self) -> bool:
        """Tell whether the body is for the route to read, or to refuse.

        A chunked one is when that much has arrived: refusing it then takes no more reading.
        """
        return max(self.body_length, self._content) > MAX_BODY_BYTES

    def wants_to_be_asked(self) -> bool:
        """Tell whether the client waits for a word before it sends the body."""
        head = self.head_length
        return head == len(self.data) > 0 and _EXPECT.search(self.data, 0, head) is not None

    def forget_expectation(self) -> None:
        """Drop the header that was answered, or the server would answer it once more."""
        self.data[:] = _EXPECT.sub(b"", self.data, count=1)

    def _has_last_chunk(self) -> bool:
        """Look at what has arrived since the last time: once at each chunk, not at every byte."""
        self._chunk = self._chunk or self.head_length
        while chunk := _CHUNK.match(self.data, self._chunk):
            size = int(chunk[1], 16)
            if size == 0:
                return self.data.find(b"\r\n\r\n", chunk.end() - 2) >= 0  # behind trailers
            self._content = self._whole + min(size, len(self.data) - chunk.end())
            if len(self.data) < chunk.end() + size + 2:
                return False
            self._chunk = chunk.end() + size + 2
            self._whole += size
        # What is no chunk will not become one: that is for the parser to say.
        return self.data.find(b"\r\n", self._chunk) >= 0
