"""A client's socket, passed between the loop, which waits, and a thread, which answers."""

from __future__ import annotations

import socket
import threading
import time
from abc import ABC, abstractmethod
from asyncio import AbstractEventLoop
from collections.abc import Callable

from chassis.http.wire import Gone, Wire

LINGER_SECONDS = 2.0


class Link(ABC):
    """A socket that belongs to the loop, or, while `is_busy`, to the thread that answers.

    Only the loop makes a link busy, and only the loop closes it: so no descriptor is closed, and
    given to another client, while a thread sends on it. The loop goes on watching a busy link
    until something arrives. Most clients send nothing before they have their answer, and then
    the thread need not wake the loop up afterwards.
    """

    def __init__(self, loop: AbstractEventLoop, sock: socket.socket) -> None:
        self.is_busy = False
        self._loop = loop
        self._wire = Wire(sock)
        self._lock = threading.Lock()
        self.deadline = 0.0
        self._is_lingering = self._is_closed = self._is_watched = False

    @abstractmethod
    def _on_data(self, data: bytes) -> None:
        """Take in data that has arrived; in the loop."""

    @abstractmethod
    def _on_end(self) -> None:
        """Take note that the client will send no more; in the loop."""

    @abstractmethod
    def _on_sent(self) -> None:
        """Go on after all has left; in the loop."""

    @abstractmethod
    def _lose(self) -> None:
        """Give up on a client that has left or stalled; in the loop."""

    def watch(self) -> None:
        """Wait for data to arrive; in the loop."""
        if not self._is_watched and not self._is_closed:
            self._is_watched = True
            self._loop.add_reader(self._wire.number, self._on_readable)

    def close(self) -> None:
        """Close at once, and for good; in the loop."""
        self._is_closed = True
        self._unwatch()
        self._loop.remove_writer(self._wire.number)
        self._wire.close()

    def _unwatch(self) -> None:
        if self._is_watched:
            self._is_watched = False
            self._loop.remove_reader(self._wire.number)

    def _on_readable(self) -> None:
        with self._lock:
            if self.is_busy:
                self._unwatch()  # the data waits until the answer has left
                return
        try:
            data = self._wire.read()
        except Gone:
            self.close()
            return
        if data and not self._is_lingering:
            self._on_data(data)
        elif data == b"":
            self._unwatch()
            self.close() if self._is_lingering else self._on_end()

    def _on_writable(self) -> None:
        """Send more of an answer that the client takes slowly."""
        try:
            is_sent = self._wire.send_more()
        except Gone:
            self._stop_sending()
            return
        if is_sent:
            self._loop.remove_writer(self._wire.number)
            self._on_sent()

    def _stop_sending(self) -> None:
        self._wire.unsent.clear()
        self._loop.remove_writer(self._wire.number)
        self._lose()

    def _watch_writable(self) -> None:
        if self._wire.unsent and not self._is_closed:
            self._loop.add_writer(self._wire.number, self._on_writable)

    # Called in a thread; in the loop only while no thread has the link.

    def _send(self, data: list[bytes]) -> bool:
        """Send as much as the client takes at once; the loop sends the rest.

        Raises:
            Gone: the client has left.
        """
        if self._wire.send(data):
            return True
        self._in_loop(self._watch_writable)
        return False

    def _give_back(self) -> None:
        """Give the link back to the loop."""
        with self._lock:
            self.is_busy = False
            is_watched = self._is_watched
        if not is_watched:
            self._in_loop(self.watch)

    def _linger(self) -> None:
        """End the sending side and wait for the client to close, so that it can read its answer.

        If the socket closed at once, data that the client still sends would cause a reset, which
        discards the answer that it has not read (RFC 9112, section 9.6).
        """
        self._is_lingering = True
        self.deadline = time.monotonic() + LINGER_SECONDS
        self._wire.say_goodbye()
        self._give_back()

    def _in_loop(self, callback: Callable[[], None]) -> None:
        self._loop.call_soon_threadsafe(callback)
