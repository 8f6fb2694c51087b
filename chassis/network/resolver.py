"""Addresses of hosts, found within a deadline whatever the name server does."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from chassis.network.deadline import Deadline

# Family, type, protocol, canonical name, address: what getaddrinfo returns.
Address = tuple[Any, ...]
LookUp = Callable[[str, int], list[Address]]


def look_up(host: str, port: int) -> list[Address]:
    """Ask the system's resolver, which takes as long as it likes and cannot be interrupted."""
    return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))


class Resolver:
    """Looks names up in threads beside the callers, who wait no longer than they can.

    There is one thread for each name that is asked for at the moment, however many callers wait.

    Args:
        look_up: Returns the addresses of a host and a port; raises OSError.
    """

    def __init__(self, look_up: LookUp = look_up) -> None:
        self._look_up = look_up
        self._lock = threading.Lock()
        self._asked: dict[tuple[str, int], Future[list[Address]]] = {}
        self._known: dict[tuple[str, int], list[Address]] = {}

    def addresses(self, host: str, port: int, deadline: Deadline) -> list[Address]:
        """Return the addresses of a host, or the last that were known when nobody answers.

        Raises:
            OSError: there is no such host, or the name server failed.
            TimeoutError: it did not answer.
            UnicodeError: no name server could know such a name.
        """
        known = self._known.get((host, port), [])
        left = deadline.remaining()
        try:
            return self._ask(host, port).result(left / 2 if known else left)
        except OSError as error:
            # An old address is no answer to a name that is gone.
            is_gone = isinstance(error, socket.gaierror) and error.errno == socket.EAI_NONAME
            if not known or is_gone:
                raise
            return known

    def _ask(self, host: str, port: int) -> Future[list[Address]]:
        with self._lock:
            if found := self._asked.get((host, port)):
                return found
            found = self._asked[host, port] = Future()
        # A daemon, for a process must be able to end while a name server does not answer.
        threading.Thread(
            target=self._run, args=(host, port, found), name="look-up", daemon=True
        ).start()
        return found

    def _run(self, host: str, port: int, found: Future[list[Address]]) -> None:
        try:
            addresses = self._look_up(host, port)
        except Exception as error:  # noqa: BLE001 - the callers' to handle
            self._asked.pop((host, port))
            found.set_exception(error)
        else:
            self._known[host, port] = addresses
            self._asked.pop((host, port))
            found.set_result(addresses)
