"""Stacks of all threads on stderr: on SIGUSR2, and when the process is about to crash.

They are files, lines and functions; neither values nor source show. Python's own fault handler
writes them from within the signal, so it does not matter which code hangs, nor where.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable

SIGNAL = signal.SIGUSR2
# A process writes in pieces. Within this time it is done, and the next one begins.
TURN_SECONDS = 0.1


def write_on_signal() -> None:
    """Write this process's stacks on SIGUSR2 from now on, and on SIGABRT, SIGSEGV and the like.

    A process that was forked has to call this again, because gunicorn takes the handlers away.
    """
    if sys.stderr is None:  # it was closed before the start: there is nowhere to write to
        signal.signal(SIGNAL, signal.SIG_IGN)
        return
    faulthandler.enable()
    faulthandler.unregister(SIGNAL)  # else a forked process would take it for registered
    faulthandler.register(SIGNAL)


def write_all(children: Iterable[int], send: Callable[[int, int], None]) -> None:
    """Write this process's stacks and those of its children, one after the other.

    Args:
        children: Ids of processes that write on SIGUSR2.
        send: Sends a process a signal.
    """
    _announce(os.getpid())
    if sys.stderr is not None:
        faulthandler.dump_traceback()
    for child in children:
        _announce(child)
        send(child, SIGNAL)
        time.sleep(TURN_SECONDS)


def _announce(process: int) -> None:
    if sys.stderr is not None:
        sys.stderr.write(f"Stacks of process {process}:\n")
        sys.stderr.flush()
