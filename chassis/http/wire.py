"""A client's socket: nobody waits for it who has other things to do."""

from __future__ import annotations

import select
import socket
import struct
import time
from collections import deque
from contextlib import suppress

from chassis.http.pace import Pace

READ_BYTES = 64 * 1024
# How long a thread waits for the next request on the connection that it has just answered.
STAY_SECONDS = 0.005

_NOW = socket.MSG_DONTWAIT
_RESET = struct.pack("ii", 1, 0)
_STAY = struct.pack("ll", 0, int(STAY_SECONDS * 1_000_000))


class Gone(Exception):
    """The client has left."""


class Wire:
    """A blocking socket, on which only those wait who say so.

    Waiting is then one call that gives the interpreter away once, where polling takes two.

    Attributes:
        unsent: What the client has not taken yet.
        pace: How much time it has for that.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.number = sock.fileno()
        self.unsent: deque[memoryview] = deque()
        self.pace: Pace | None = None
        self._socket = sock
        self._is_limited = False

    def read(self) -> bytes | None:
        """Return what is there; None when that is nothing, and nothing at the end.

        Raises:
            Gone: there is no client any more.
        """
        try:
            return self._socket.recv(READ_BYTES, _NOW)
        except BlockingIOError:
            return None
        except OSError:
            raise Gone from None

    def read_soon(self) -> bytes:
        """Wait a moment for more; nothing when it does not come, or the client is gone."""
        if not self._is_limited:
            self._is_limited = True
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _STAY)
        try:
            return self._socket.recv(READ_BYTES)
        except OSError:
            return b""

    def read_by(self, pace: Pace) -> bytes:
        """Wait for more; nothing when the client is gone, or took too long."""
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
        """Send what the client takes at once; tell whether that was all.

        Raises:
            Gone: there is no client any more.
        """
        for number, piece in enumerate(data):
            sent = self._send(piece)
            if sent < len(piece):
                # What has gone into the system's buffers is not yet to the client's credit.
                self.unsent.append(memoryview(piece)[sent:])
                self.unsent.extend(map(memoryview, data[number + 1 :]))
                self.pace = self.pace or Pace()
                self.pace.begin(time.monotonic())
                return False
        return True

    def send_more(self) -> bool:
        """Send more of what was left; tell whether that was all.

        Raises:
            Gone: there is no client any more.
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
        """Send a short word, if the client is still there and takes it."""
        with suppress(OSError):
            self._socket.send(word, _NOW)

    def say_goodbye(self) -> None:
        """Send no more."""
        with suppress(OSError):  # a client that is gone shows at the next read
            self._socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Let the close be a reset, so that nobody takes what was sent for the whole."""
        with suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)

    def close(self) -> None:
        """Close at once."""
        self._socket.close()
