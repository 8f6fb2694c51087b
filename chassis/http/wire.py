"""A client's socket, on which each operation says whether it may wait."""

from __future__ import annotations

import select
import socket
import struct
import time
from collections import deque
from contextlib import suppress

from chassis.http.pace import Pace

READ_BYTES = 64 * 1024
# A thread waits this long for the next request on the connection that it has just answered.
STAY_SECONDS = 0.005

_NOW = socket.MSG_DONTWAIT
_RESET = struct.pack("ii", 1, 0)
_STAY = struct.pack("ll", 0, int(STAY_SECONDS * 1_000_000))


class Gone(Exception):
    """The client has left."""


class Wire:
    """A blocking socket, on which only the operations that are meant to wait do so.

    Waiting is then one system call that releases the GIL once; polling would take two calls.

    Attributes:
        unsent: The pieces that the client has not taken yet.
        pace: The time that the client has for taking them.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.number = sock.fileno()
        self.unsent: deque[memoryview] = deque()
        self.pace: Pace | None = None
        self._socket = sock
        self._is_limited = False

    def read(self) -> bytes | None:
        """Return the bytes that have arrived; None when there are none, empty at the end.

        Raises:
            Gone: the client has left.
        """
        try:
            return self._socket.recv(READ_BYTES, _NOW)
        except BlockingIOError:
            return None
        except OSError:
            raise Gone from None

    def read_soon(self) -> bytes:
        """Wait a moment for bytes; return none when none come, or the client has left."""
        if not self._is_limited:
            self._is_limited = True
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _STAY)
        try:
            return self._socket.recv(READ_BYTES)
        except OSError:
            return b""

    def read_by(self, pace: Pace) -> bytes:
        """Wait for bytes; return none when the client has left, or takes too long."""
        pace.begin(time.monotonic())
        readable = select.poll()
        readable.register(self.number, select.POLLIN)
        is_readable = readable.poll(max(0.0, pace.left(time.monotonic())) * 1000)
        pace.end(time.monotonic())
        data = b""
        if is_readable:
            with suppress(Gone):
                data = self.read() or b""
        pace.move(len(data))
        return data

    def send(self, data: list[bytes]) -> bool:
        """Send as much as the client takes at once; tell whether that was all.

        Raises:
            Gone: the client has left.
        """
        for number, piece in enumerate(data):
            sent = self._send(piece)
            if sent < len(piece):
                # Bytes in the system's buffers do not count as taken by the client yet.
                self.unsent.append(memoryview(piece)[sent:])
                self.unsent.extend(map(memoryview, data[number + 1 :]))
                self.pace = self.pace or Pace()
                self.pace.begin(time.monotonic())
                return False
        return True

    def send_more(self) -> bool:
        """Send more of the unsent pieces; tell whether that was all.

        Raises:
            Gone: the client has left.
        """
        if self.unsent and self.pace is not None:
            sent = self._send(self.unsent[0])
            self.pace.move(sent)
            self.unsent[0] = self.unsent[0][sent:]
            if not self.unsent[0]:
                self.unsent.popleft()
            if not self.unsent:
                self.pace.end(time.monotonic())
        return not self.unsent

    def _send(self, data: bytes | memoryview) -> int:
        try:
            return self._socket.send(data, _NOW)
        except BlockingIOError:
            return 0
        except OSError:
            raise Gone from None

    def is_late(self, now: float) -> bool:
        """Tell whether the client takes its answer too slowly."""
        return bool(self.unsent) and self.pace is not None and self.pace.left(now) < 0

    def tell(self, word: bytes) -> None:
        """Send a short interim answer, if the client is still there and takes it."""
        with suppress(OSError):
            self._socket.send(word, _NOW)

    def say_goodbye(self) -> None:
        """End the sending side of the connection."""
        with suppress(OSError):  # a client that is gone shows at the next read
            self._socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Make the close a reset, so that the client does not take a part for the whole."""
        with suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)

    def close(self) -> None:
        """Close at once."""
        self._socket.close()
