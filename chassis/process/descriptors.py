"""Descriptors on which nobody keeps a writer waiting."""

from __future__ import annotations

import os
import stat


def open_again(descriptor: int) -> int | None:
    """Open a pipe or a terminal once more, for writing that never waits.

    Other holders of the pipe or terminal go on to wait for room.

    Returns:
        None for files and sockets, and where the system refuses: it is another account's, or the
        system is not Linux.
    """
    mode = os.fstat(descriptor).st_mode
    if not (stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)):
        return None
    try:
        return os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
