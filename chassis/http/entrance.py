"""The listening sockets of a worker, and the connections that it takes from them."""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from chassis.http import balance
from chassis.http.connection import Connection
from chassis.http.handshakes import turn_away

if TYPE_CHECKING:
    from chassis.http.worker import Worker

# A worker leaves a new connection for this time to a worker that has fewer.
GIVE_WAY_SECONDS = 0.001
# With too many connections, a worker closes this number of idle ones at a time.
GIVEN_UP = 8
# Connections for probes and scrapes beyond all others, on a port of their own.
SPARE_CONNECTIONS = 16

_NOBODY = frozenset({errno.EAGAIN, errno.ECONNABORTED, errno.EINTR})
_MAPPED = "::ffff:"


def hosts() -> list[str]:
    """Return the hosts to listen on: IPv6 including IPv4 where there is IPv6, else IPv4."""
    with suppress(OSError), socket.socket(socket.AF_INET6) as probe:
        is_separate = probe.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
        probe.bind(("::", 0))
        return ["::", "0.0.0.0"] if is_separate else ["::"]  # noqa: S104 - callers are outside
    return ["0.0.0.0"]  # noqa: S104 - as above


def addresses(port: int, host: str = "") -> list[str]:
    """Return the hosts to listen on as gunicorn writes them, with a port; all without a host."""
    chosen = [host] if host else hosts()
    return [f"[{each}]:{port}" if ":" in each else f"{each}:{port}" for each in chosen]


class Entrance:
    """The listening sockets of a worker, while it takes connections in.

    Args:
        worker: The worker that the connections belong to.
        listeners: gunicorn's sockets; the other workers listen on them as well.
    """

    def __init__(self, worker: Worker, listeners: Iterable[Any]) -> None:
        self._worker = worker
        self._listeners = {each: _base_environ(each, worker.cfg.workers) for each in listeners}
        self._watched: set[Any] = set()

    def watch(self) -> None:
        """Take connections in, also from listeners that were left because all places were taken."""
        for listener in self._listeners.keys() - self._watched:
            self._watched.add(listener)
            self._worker.loop.add_reader(listener.fileno(), self._on_connect, listener)

    def turn_away(self) -> bool:
        """Let no new client begin to connect; tell whether some may have begun before."""
        turned = [turn_away(each) for each in self._listeners]  # all of them, not the first alone
        return any(turned)

    def close(self) -> None:
        """Take in the clients that have connected already, and none after them."""
        for listener in [*self._listeners]:
            self._leave(listener)
            while self._accept(listener):
                pass
            listener.close()  # else later clients would connect, and never get an answer
        self._listeners.clear()

    def _leave(self, listener: Any) -> None:
        if listener in self._watched:
            self._watched.discard(listener)
            self._worker.loop.remove_reader(listener.fileno())

    def _on_connect(self, listener: Any) -> None:
        """Take a connection in, or leave it for a moment to a worker that has fewer.

        All workers wake up for a connection, and callers keep connections for long. If the
        quickest worker took them all, one worker would work while the others rest.
        """
        if balance.has_fewer(len(self._worker.connections)):
            self._leave(listener)
            self._worker.loop.call_later(GIVE_WAY_SECONDS, self._accept_after_all, listener)
        else:
            self._accept(listener)

    def _accept_after_all(self, listener: Any) -> None:
        if listener in self._listeners:
            self.watch()
            self._accept(listener)

    def _accept(self, listener: Any) -> bool:
        """Take a connection in, if there is one and a place for it."""
        worker = self._worker
        if len(worker.connections) >= self._places(listener) and not self._give_up_idle():
            self._leave(listener)  # until a connection has closed
            return False
        try:
            sock, address = listener.accept()
        except OSError as error:
            # Out of descriptors or memory: new clients wait, and connected ones lose nothing.
            if error.errno not in _NOBODY and not self._give_up_idle():
                self._leave(listener)
            return False
        base = self._listeners[listener] | _client(address)
        worker.connections.add(Connection(worker, sock, base))
        balance.count(worker.age, len(worker.connections))
        return True

    def _places(self, listener: Any) -> int:
        """Return the number of connections beyond which a listener takes none in."""
        is_management = self._listeners[listener]["SERVER_PORT"] == str(
            self._worker.management_port
        )
        spare = SPARE_CONNECTIONS if is_management else 0
        return int(self._worker.cfg.worker_connections) + spare

    def _give_up_idle(self) -> bool:
        """Close a few of the connections that have been idle for longest, if there are any."""
        idle = [each for each in self._worker.connections if each.is_idle and not each.is_busy]
        for connection in sorted(idle, key=lambda each: each.began_at)[:GIVEN_UP]:
            connection.close()
        return bool(idle)


def _client(address: Any) -> dict[str, str]:
    host, port = address[:2] if isinstance(address, tuple) else ("", 0)
    return {"REMOTE_ADDR": host.removeprefix(_MAPPED), "REMOTE_PORT": str(port)}


def _base_environ(listener: Any, workers: int) -> dict[str, Any]:
    address = listener.getsockname()
    host, port = address[:2] if isinstance(address, tuple) else ("", 0)
    return {
        "SCRIPT_NAME": "",
        "SERVER_NAME": host,
        "SERVER_PORT": str(port),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": workers > 1,
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,
    }
