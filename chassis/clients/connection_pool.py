"""Connections that are kept between calls."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Hashable
from contextlib import suppress
from typing import Generic, Protocol, TypeVar

# Longer, and a firewall on the way may have forgotten the connection without a word.
IDLE_SECONDS = 30.0


class Connection(Protocol):
    """A connection that may be used again.

    Attributes:
        is_kept: Whether another call may follow.
    """

    is_kept: bool

    def is_quiet(self) -> bool:
        """Tell whether the other side has neither hung up nor said what nobody asked for."""

    def close(self) -> None:
        """Hang up, without waiting."""


Kept = TypeVar("Kept", bound=Connection)


class ConnectionPool(Generic[Kept]):
    """Idle connections, for whichever thread calls next; the last one that was used goes first.

    There are never more than there were calls at a time, and each is closed when nobody has used
    it for a while.

    Args:
        idle_seconds: How long a connection is kept after a call.
    """

    def __init__(self, *, idle_seconds: float = IDLE_SECONDS) -> None:
        self._idle_seconds = idle_seconds
        self._lock = threading.Lock()
        self._idle: defaultdict[Hashable, list[tuple[Kept, float]]] = defaultdict(list)
        self._sweeper: threading.Timer | None = None
        self._is_closed = False

    def take(self, place: Hashable) -> Kept | None:
        """Return a connection to a place that can be used; None: there is none."""
        while True:
            with self._lock:
                if not self._idle[place]:
                    return None
                connection, until = self._idle[place].pop()
            if time.monotonic() < until and connection.is_quiet():
                return connection
            connection.close()

    def give(self, place: Hashable, connection: Kept) -> None:
        """Take a connection back, or close it where it is of no more use."""
        with self._lock:
            if connection.is_kept and not self._is_closed and self._is_swept():
                self._idle[place].append((connection, time.monotonic() + self._idle_seconds))
                return
        connection.close()

    def close(self) -> None:
        """Close what is idle; what is in use is closed when it is given back."""
        with self._lock:
            self._is_closed = True
            if self._sweeper is not None:
                self._sweeper.cancel()
            idle = [each for kept in self._idle.values() for each, _ in kept]
            self._idle.clear()
        for connection in idle:
            connection.close()

    def _is_swept(self) -> bool:
        """Tell whether idle connections will be closed: there may be no thread left for that."""
        # The call that was made is over and done; it must not fail for this.
        with suppress(RuntimeError):
            self._sweeper = self._sweeper or self._start_sweeper()
        return self._sweeper is not None

    def _start_sweeper(self) -> threading.Timer:
        sweeper = threading.Timer(self._idle_seconds, self._sweep)
        sweeper.daemon = True  # a process ends without waiting for it
        sweeper.start()
        return sweeper

    def _sweep(self) -> None:
        """Close what nobody has used, and come again while anything is idle."""
        now = time.monotonic()
        with self._lock:
            idle = [(place, *each) for place, kept in self._idle.items() for each in kept]
            self._idle.clear()
            for place, connection, until in idle:
                if now < until:
                    self._idle[place].append((connection, until))
            self._sweeper = None
            if self._idle:
                self._is_swept()
        for _, connection, until in idle:
            if now >= until:
                connection.close()
