"""Stacks of all threads on stderr: on SIGUSR2, and when the process is about to crash.

They are files, lines and functions; neither values nor source show. A thread waits for the signal
and has Python's own fault handler write them, so it does not matter which other thread hangs, nor
where. From within a signal's handler, stacks of threads that run meanwhile would be read while they
change, which ends the process now and then.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

from chassis.once import once
from chassis.process.descriptors import open_again

SIGNAL = signal.SIGUSR2
# A process writes in pieces. Within this time it is done, and the next one begins.
TURN_SECONDS = 0.1


def write_on_signal() -> None:
    """Write this process's stacks on SIGUSR2 from now on, and on SIGABRT, SIGSEGV and the like.

    Call this before other threads are started: they must have the signal blocked, as this one has
    it from now on. A process that was forked has to call this again.
    """
    if sys.stderr is None:  # it was closed before the start: there is nowhere to write to
        signal.signal(SIGNAL, signal.SIG_IGN)
        return
    faulthandler.enable(_output())
    signal.pthread_sigmask(signal.SIG_BLOCK, {SIGNAL})
    threading.Thread(target=_write_each_time, name="stacks", daemon=True).start()


def write_all(children: Iterable[int], send: Callable[[int, int], None]) -> None:
    """Write this process's stacks and those of its children, one after the other.

    Args:
        children: Ids of processes that write on SIGUSR2.
        send: Sends a process a signal.
    """
    _announce(os.getpid())
    if sys.stderr is not None:
        faulthandler.dump_traceback(_output())
    for child in children:
        _announce(child)
        send(child, SIGNAL)
        time.sleep(TURN_SECONDS)


def _write_each_time() -> None:
    while True:
        signal.sigwait({SIGNAL})
        faulthandler.dump_traceback(_output())


def _announce(process: int) -> None:
    if sys.stderr is not None:
        with suppress(OSError):  # nobody reads
            os.write(_output(), f"Stacks of process {process}:\n".encode())


@once
def _output() -> int:
    """Return the descriptor for stacks: a process must not wait for somebody who reads them."""
    again = open_again(sys.stderr.fileno())
    return sys.stderr.fileno() if again is None else again
