"""Signals that come while a process is forked: the child gets those that are meant for it.

Until the child has set its own handlers it has those of its parent, which would take note of a
signal in a copy of the parent that nobody looks at.
"""

from __future__ import annotations

import os
import signal

_HELD = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2})


def hold_signals() -> None:
    """Let signals for a process wait; call this before a fork. The parent hears them after it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _HELD)


def hear_signals() -> None:
    """Hear those that came meanwhile; called in the child when its handlers are set."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD)


os.register_at_fork(after_in_parent=hear_signals)
