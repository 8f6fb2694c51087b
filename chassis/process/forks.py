"""Signals that come while a process is forked: the child gets those that are meant for it.

Until the child has set its own handlers it has those of its parent, which would take note of a
signal in a copy of the parent that nobody looks at.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Collection

from chassis.process.first_process import DIAGNOSIS

_HELD = DIAGNOSIS | {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT}


_is_holding = False


def hold_signals() -> None:
    """Let signals for a process wait; call this before a fork. The parent hears them after it."""
    global _is_holding  # noqa: PLW0603 - the process's own
    _is_holding = True
    signal.pthread_sigmask(signal.SIG_BLOCK, _HELD)


def hold_diagnosis() -> None:
    """Let signals that ask for stacks and log lines wait, for good, in this thread.

    Processes that the thread starts begin so, and those that such a process forks. By default
    these signals are deadly.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, DIAGNOSIS)


def hear_signals(but: Collection[int] = ()) -> None:
    """Hear those that came meanwhile; called in the child when its handlers are set.

    Args:
        but: Signals that stay blocked, because a thread waits for them.
    """
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD.difference(but))


def _hear_in_parent() -> None:
    global _is_holding  # noqa: PLW0603 - as above
    if _is_holding:  # a fork server goes on to hold those of diagnosis
        _is_holding = False
        hear_signals()


os.register_at_fork(after_in_parent=_hear_in_parent)
