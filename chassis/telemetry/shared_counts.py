"""Counts that the web workers of a pod share, in files that outlast them (ADR 37).

Each worker has a slot, and maps the slot's files. A worker that follows in the slot goes on with
its counts, so there are never more files than workers were alive at a time. Space is reserved when
a file is made: the kernel kills a process that writes to a mapped page without room on the disk.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from contextlib import suppress
from pathlib import Path

from chassis.telemetry.instruments import count_alone, count_together, files_in

_LIVE_GAUGES = ("gauge_livesum", "gauge_livemax", "gauge_livemostrecent")
# Bytes to reserve. A route's histogram takes 4 KiB for each method and status.
_SIZES = {"histogram": 1 << 20, "counter": 1 << 17, **dict.fromkeys(_LIVE_GAUGES, 1 << 14)}
_SUFFIX = "-metrics"
_LOCK = "lock"
_MASTER = 0  # the slot of the process that forks the workers

# gunicorn reads its configuration again on a reload; the counts go on.
_directory: Path | None = None
_slots: dict[int, int] = {}  # a worker's age, which gunicorn gives -> its slot
_own_slot = _MASTER


def share(workers: int) -> bool:
    """Count in files from now on; call this before the first count. A second call does nothing.

    The environment may name the directory, whose earlier counts are removed.

    Args:
        workers: How many are usually alive. As many again may be while they are replaced.

    Returns:
        Whether it is so. Without room on the disk each process counts alone, in memory.
    """
    global _directory  # noqa: PLW0603 - the process's own
    if _directory is not None:
        return True
    try:
        directory = Path(os.environ.get("PROMETHEUS_MULTIPROC_DIR") or _make_directory())
    except OSError:  # there is no folder for temporary files
        count_alone()
        return False
    try:
        directory.mkdir(parents=True, exist_ok=True)
        _remove_files(directory)  # left by an earlier container of the same pod
        for slot in range(_MASTER, 2 * workers + 1):
            _reserve(directory, slot)
    except OSError:
        _remove(directory)
        count_alone()
        return False
    _directory = directory
    count_together(str(directory), identify=_find_own_slot)
    return True


def assign(age: int) -> None:
    """Give a worker that is about to be forked the first free slot."""
    taken = set(_slots.values())
    _slots[age] = next(slot for slot in range(_MASTER + 1, len(taken) + 2) if slot not in taken)
    if _directory is not None:
        with suppress(OSError):  # beyond what was reserved at the start, and the disk is full
            _reserve(_directory, _slots[age])


def enter(age: int) -> None:
    """Count in a worker's own slot; called in the worker, before its first count."""
    global _own_slot  # noqa: PLW0603 - the process's own
    _own_slot = _slots[age]


def release(age: int) -> None:
    """Take back the slot of a worker that has exited: its gauges end, its counters stay."""
    slot = _slots.pop(age, None)
    if slot is None or _directory is None:
        return
    for kind in _LIVE_GAUGES:
        _empty(_directory / f"{kind}_{slot}.db")


def close() -> None:
    """Remove the files of counts, and no others; called when all workers have exited."""
    global _directory  # noqa: PLW0603 - the process's own
    if _directory is not None:
        _remove(_directory)
        _directory = None


def _find_own_slot() -> int:
    return _own_slot


def _make_directory() -> Path:
    """Make a directory that is locked as long as this process or one of its workers lives."""
    _remove_abandoned(Path(tempfile.gettempdir()))
    new = Path(tempfile.mkdtemp(f"{_SUFFIX}.new"))
    fcntl.flock(os.open(new / _LOCK, os.O_CREAT | os.O_RDWR), fcntl.LOCK_EX)
    return new.rename(new.with_suffix(""))  # with its lock, so that nobody takes it for abandoned


def _remove_abandoned(folder: Path) -> None:
    """Remove the directories of processes that were killed."""
    for directory in folder.glob(f"*{_SUFFIX}"):
        with suppress(OSError):  # of another account, or not one of these
            lock = os.open(directory / _LOCK, os.O_RDWR | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(directory)
            finally:
                os.close(lock)


def _reserve(directory: Path, slot: int) -> None:
    # Written, not truncated to: a file with holes has no room reserved.
    for kind, size in _SIZES.items():
        with (directory / f"{kind}_{slot}.db").open("ab") as file:
            file.write(bytes(max(0, size - file.tell())))


def _empty(file: Path) -> None:
    # Kept, so that its space stays reserved. The first word is the size of what follows.
    with suppress(OSError), file.open("r+b") as opened:
        opened.write(bytes(4))


def _remove(directory: Path) -> None:
    with suppress(OSError):  # it is gone already, or holds other files
        _remove_files(directory)
        (directory / _LOCK).unlink(missing_ok=True)
        directory.rmdir()


def _remove_files(directory: Path) -> None:
    for file in files_in(str(directory)):
        file.unlink()
