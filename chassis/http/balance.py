"""How many connections each worker has, seen by all of them (ADR 30)."""

from __future__ import annotations

import mmap

# With more workers than slots, or after a restart, the numbers are a little off, and connections
# are spread a little worse. A slot holds the number plus one; 0 where there is no worker.
_SLOTS = 64
_STOP = 0  # this slot says whether the master is stopping

# All processes that are forked from this one share the memory.
_shared = memoryview(mmap.mmap(-1, 4 * (_SLOTS + 1))).cast("i")


def count(age: int, connections: int) -> None:
    """Tell all workers how many connections this one has."""
    _shared[_slot(age)] = connections + 1


def forget(age: int) -> None:
    """Stop counting the connections of a worker that has exited."""
    _shared[_slot(age)] = 0


def has_fewer(connections: int) -> bool:
    """Tell whether another worker has fewer connections."""
    return min(filter(None, _shared[_STOP + 1 :]), default=0) <= connections


def announce_stop() -> None:
    """Tell all workers that the master is about to stop them; called in the master."""
    _shared[_STOP] = 1


def is_stop_announced() -> bool:
    """Tell whether the whole service stops, rather than one worker that is replaced."""
    return bool(_shared[_STOP])


def _slot(age: int) -> int:
    return _STOP + 1 + age % _SLOTS
