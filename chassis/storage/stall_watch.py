"""Connections that are in use for longer than any statement may take."""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, Engine, event


class StallWatch:
    """Remembers when each connection was taken, and closes the sockets of those that stalled.

    The system of a frozen server process still acknowledges packets, so no timeout of the
    network or of the server applies.
    """

    def __init__(self, patience: timedelta) -> None:
        self._patience_seconds = patience.total_seconds()
        self._in_use: dict[int, tuple[Any, float]] = {}

    def watch(self, engine: Engine) -> None:
        """Watch the connections of an engine's pool."""

        @event.listens_for(engine, "checkout")
        def _begin(connection: Any, _record: Any, _proxy: Any) -> None:
            self._in_use[id(connection)] = (connection, time.monotonic() + self._patience_seconds)

        @event.listens_for(engine, "reset")
        def _end(connection: Any, _record: Any, _state: Any) -> None:
            self._in_use.pop(id(connection), None)

        @event.listens_for(engine, "close")
        def _forget(connection: Any, _record: Any) -> None:
            self._in_use.pop(id(connection), None)

    def excuse(self, connection: Connection) -> None:
        """Exempt a connection until it is back in the pool."""
        self._in_use.pop(id(connection.connection.dbapi_connection), None)

    def cut(self, engine: Engine) -> None:
        """Close the sockets of stalled connections; threads that wait on them get an error."""
        now = time.monotonic()
        stalled = [each for each, deadline in list(self._in_use.values()) if deadline < now]
        for connection in stalled:
            # The thread that uses the connection may close it at the same moment.
            with suppress(OSError, engine.dialect.loaded_dbapi.Error):
                _hang_up(connection.fileno())


def _hang_up(descriptor: int) -> None:
    with socket.socket(fileno=os.dup(descriptor)) as peer:
        peer.shutdown(socket.SHUT_RDWR)
