"""A process that is the first of its container."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType


def hear_sigterm() -> None:
    """End on SIGTERM until something better is set up for it.

    The kernel keeps from the first process a signal that it has no handler for. Call it before
    anything that takes time is imported.
    """
    if os.getpid() == 1 and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _end)


def _end(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)
