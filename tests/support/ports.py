"""Ports that only one test is given, and whose they are in the end."""

from __future__ import annotations

import secrets
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

HOST = "127.0.0.1"
# Below the ports that outgoing connections get. Such a one could be taken while its server is
# stopped, even by a client that tries to reach the server: it would be connected to itself.
FIRST, LAST = 10_000, 30_000
BLOCK = 50
# Linux lists children. Tests wait for processes in short turns, and a search through all processes
# of the machine in each turn would take the CPU from the very process that is waited for.
_HAS_LISTS = Path(f"/proc/self/task/{threading.get_native_id()}/children").exists()


def free_port() -> int:
    """Return a port that is free, and that nobody else who asks here is given.

    Ports come in blocks. A process that binds the first port of a block owns the others until it
    ends: the kernel lets no second process of any user bind it, and no file is needed.
    Programs that do not ask here may still come in between: see `is_served_by`.
    """
    with _lock:
        return next(_ports)


def is_served_by(pid: int, port: int) -> bool:
    """Tell whether a process or one below it takes connections on a port.

    An answer does not tell: it could be another server's, whose port ours failed to get.
    """
    return any(port in listening(each) for each in family(pid))


def listening(pid: int) -> set[int]:
    """Return the ports on which a process takes connections."""
    with suppress(psutil.Error):  # it has ended
        connections = psutil.Process(pid).net_connections("tcp")
        return {each.laddr.port for each in connections if each.status == psutil.CONN_LISTEN}
    return set()


def family(pid: int) -> list[int]:
    """Return the ids of a process and of all below it."""
    return [pid, *children(pid, recursive=True)]


def children(pid: int, *, recursive: bool = False) -> list[int]:
    """Return the ids of a process's children, oldest first."""
    if not _HAS_LISTS:
        return _searched(pid, recursive=recursive)
    found = sorted(int(each) for file in _lists(pid) for each in _read(file).split())
    below = [each for child in found if recursive for each in children(child, recursive=True)]
    return found + below


def _lists(pid: int) -> Iterator[Path]:
    """Yield the kernel's lists of a process's children, one for each of its threads."""
    with suppress(OSError):  # it has ended
        yield from Path(f"/proc/{pid}/task").glob("*/children")


def _read(file: Path) -> str:
    with suppress(OSError):
        return file.read_text()
    return ""


def _searched(pid: int, *, recursive: bool) -> list[int]:
    """Find them among all processes of the machine, where the kernel keeps no lists."""
    with suppress(psutil.Error):
        return [each.pid for each in psutil.Process(pid).children(recursive=recursive)]
    return []


def _make_ports() -> Iterator[int]:
    while True:
        # `random` has the same seed in all processes
        first = FIRST + BLOCK * secrets.randbelow((LAST - FIRST) // BLOCK)
        owner = _bind(first)
        if owner is not None:
            owner.detach()  # keeps the port until the process ends
            yield from (port for port in range(first + 1, first + BLOCK) if _is_free(port))


def _is_free(port: int) -> bool:
    probe = _bind(port)
    if probe is None:
        return False
    probe.close()
    return True


def _bind(port: int) -> socket.socket | None:
    bound = socket.socket()
    try:
        bound.bind(("", port))  # conflicts with a server on any address
    except OSError:
        bound.close()
        return None
    return bound


_lock = threading.Lock()
_ports = _make_ports()
