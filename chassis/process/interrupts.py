"""Ends of one-off processes by a signal: in order, without a traceback, with the usual status."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType

INTERRUPTED = 128 + signal.SIGINT


def hush() -> None:
    """End at once on Ctrl-C while modules load; the traceback would show the import system."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)


def listen() -> None:
    """Raise KeyboardInterrupt on Ctrl-C, as Python does by itself."""
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def end_in_order() -> None:
    """Leave the blocks in which the process is when it is told to end, so that they clean up.

    A signal that the parent had ignored, as `nohup` does, stays ignored.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _exit)
    sys.unraisablehook = _tell_again


def _leave(_number: int, _frame: FrameType | None) -> None:
    os._exit(INTERRUPTED)  # nothing has been opened yet


def _exit(number: int, _frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # a second one must not break off the cleaning up
    raise _Told(number)


class _Told(SystemExit):
    """The end of a process that was told to end."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.number = number


def _tell_again(dropped: sys.UnraisableHookArgs) -> None:
    """Repeat a signal whose exception Python dropped, because it came within a callback."""
    told = dropped.exc_value
    if not isinstance(told, _Told):
        sys.__unraisablehook__(dropped)
        return
    signal.signal(told.number, _exit)
    # Later, and from outside: here it would be dropped again.
    main = threading.main_thread().ident or 0
    again = threading.Timer(0.01, signal.pthread_kill, [main, told.number])
    again.daemon = True
    again.start()
