"""How many connections each worker has, seen by all of them (ADR 30)."""

from __future__ import annotations

import mmap

# With more workers than slots, or a restarted one, it is a little off, which only makes for a
# worse distribution. A slot holds the number plus one; 0 where there is no worker.
_SLOTS = 64
_STOP = 0  # the first says whether the master is stopping

# All processes that are forked from here share it.
_shared = memoryview(mmap.mmap(-1, 4 * (_SLOTS + 1))).cast("i")


def count(age: int, connections: int) -> None:
    """Say how many connections a worker has."""
    _shared[_slot(age)] = connections + 1


def forget(age: int) -> None:
    """Count a worker no more."""
    _shared[_slot(age)] = 0


def has_fewer(connections: int) -> bool:
    """Tell whether another worker has fewer connections."""
    return min(filter(None, _shared[_STOP + 1 :]), default=0) <= connections


def announce_stop() -> None:
    """Let workers know, in the master, that all of them are going to be stopped."""
    _shared[_STOP] = 1


def is_stop_announced() -> bool:
    """Tell a stop of the service from the replacement of one worker."""
    return bool(_shared[_STOP])


def _slot(age: int) -> int:
    return _STOP + 1 + age % _SLOTS
