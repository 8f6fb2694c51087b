"""A process that is the first of its container."""

from __future__ import annotations

import os
import signal
from types import FrameType


def hear_sigterm() -> None:
    """End the process on SIGTERM until another handler is set.

    The kernel does not deliver a signal to the first process of a container when it has no
    handler. Call this before slow imports.
    """
    if os.getpid() == 1 and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _end)


def _end(number: int, _frame: FrameType | None) -> None:
    # Not by an exception: Python drops one that is raised within a callback, as each import has
    # them, and a module may catch it. So the signal would be lost. Nothing is open yet.
    os._exit(128 + number)
