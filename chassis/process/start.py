"""Reasons that keep a process from starting, each told in one line."""

from __future__ import annotations

import errno
import os
import select
import socket
import sys
import time
from contextlib import suppress
from datetime import timedelta
from typing import NoReturn, TextIO

FAILED = 1
MISUSED = 2

_POLL_SECONDS = 0.05
_ROOM_SECONDS = 1.0
# A process that is killed leaves its port to its children for a moment.
_PATIENCE = timedelta(seconds=5)


def refuse(reason: str, status: int = MISUSED) -> NoReturn:
    """Write the reason to stderr, and exit.

    Args:
        reason: One line for each thing that is to be put right.
        status: MISUSED for arguments and settings that no start can use, else FAILED.
    """
    say(sys.stderr, f"{reason}\n")
    sys.exit(status)


def say(stream: TextIO | None, text: str) -> None:
    """Write a last text; a stream that is closed, full or broken changes no exit status.

    A pipe that nobody reads is given a second to make room.
    """
    if stream is None or not _has_room(stream):
        return
    try:
        stream.write(text)
        stream.flush()
    except OSError:
        with suppress(OSError):  # or the interpreter would fail on what is left to be written
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _has_room(stream: TextIO) -> bool:
    try:
        return bool(select.select((), (stream,), (), _ROOM_SECONDS)[1])
    except OSError:  # a stream in memory
        return True


def greet(stream: TextIO | None, text: str) -> None:
    """Show a text to a person who looks at the stream; to a file or a pipe nothing is written."""
    if stream is None or not stream.isatty():
        return
    with suppress(OSError):  # a terminal that is held, and would keep the process from going on
        if select.select((), (stream,), (), 0)[1]:
            os.write(stream.fileno(), text.encode())


def require_address(host: str, port: int, *, setting: str, patience: timedelta = _PATIENCE) -> None:
    """Refuse to start where this process may not listen; wait a while for a port that is in use.

    Args:
        host: An address of this machine, or one that stands for all of them.
        port: TCP port.
        setting: Name of the variable by which operators choose the port.
        patience: Time within which a port in use may become free.

    Raises:
        SystemExit: with status FAILED.
    """
    end = time.monotonic() + patience.total_seconds()
    while (failure := _try_to_bind(host, port)) is not None:
        if failure.errno != errno.EADDRINUSE or time.monotonic() >= end:
            refuse(f"Cannot listen on port {port} ({setting}): {failure.strerror}", FAILED)
        time.sleep(_POLL_SECONDS)


def _try_to_bind(host: str, port: int) -> OSError | None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as gunicorn does
        try:
            probe.bind((host, port))
        except OSError as failure:
            return failure
    return None
