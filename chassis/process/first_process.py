"""The first moments of a process, before its slow imports."""

from __future__ import annotations

import os
import signal
from types import FrameType

_LAST_STANDARD = 2  # the descriptor of stderr
# They ask for log lines and stacks.
DIAGNOSIS = frozenset({signal.SIGUSR1, signal.SIGUSR2})


def begin() -> None:
    """Call this before slow imports; a second call changes nothing."""
    _hear_sigterm()
    _ignore_diagnosis()
    _fill_descriptors()


def _hear_sigterm() -> None:
    """End the process on SIGTERM until another handler is set.

    The kernel does not deliver a signal to the first process of a container when it has no
    handler.
    """
    if os.getpid() == 1 and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _end)


def _ignore_diagnosis() -> None:
    """Survive the signals that ask for stacks and log lines; without a handler they are deadly."""
    for number in DIAGNOSIS:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, signal.SIG_IGN)


def _fill_descriptors() -> None:
    """Keep the numbers of standard streams that the caller closed.

    The next file or connection would get such a number, and with it all that libraries, and the
    interpreter when it crashes, write to stderr.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _LAST_STANDARD:
        os.set_inheritable(descriptor, True)  # noqa: FBT003 - its own signature
    os.close(descriptor)


def _end(number: int, _frame: FrameType | None) -> None:
    # Not by an exception: Python drops one that is raised within a callback, as each import has
    # them, and a module may catch it. So the signal would be lost. Nothing is open yet.
    os._exit(128 + number)
