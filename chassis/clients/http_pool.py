"""Connections that are kept between calls."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Hashable

from chassis.clients.http_connection import HttpConnection

# Longer, and a firewall on the way may have forgotten the connection without a word.
IDLE_SECONDS = 30.0


class HttpPool:
    """Idle connections, for whichever thread calls next; the last one that was used goes first.

    There are never more than there were calls at a time.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: defaultdict[Hashable, list[tuple[HttpConnection, float]]] = defaultdict(list)
        self._is_closed = False

    def take(self, place: Hashable) -> HttpConnection | None:
        """Return a connection to a place that can be used; None: there is none."""
        while True:
            with self._lock:
                if not self._idle[place]:
                    return None
                connection, until = self._idle[place].pop()
            if time.monotonic() < until and connection.is_quiet():
                return connection
            connection.close()

    def give(self, place: Hashable, connection: HttpConnection) -> None:
        """Take a connection back, or close it where it is of no more use."""
        with self._lock:
            if connection.is_kept and not self._is_closed:
                self._idle[place].append((connection, time.monotonic() + IDLE_SECONDS))
                return
        connection.close()

    def close(self) -> None:
        """Close what is idle; what is in use is closed when it is given back."""
        with self._lock:
            self._is_closed = True
            idle = [each for kept in self._idle.values() for each, _ in kept]
            self._idle.clear()
        for connection in idle:
            connection.close()
