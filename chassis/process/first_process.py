"""A process that is the first of its container."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType


def hear_sigterm() -> None:
    """Exit on SIGTERM until another handler is set.

    The kernel does not deliver a signal to the first process of a container when it has no
    handler. Call this before slow imports.
    """
    if os.getpid() == 1 and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _end)


def _end(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)
