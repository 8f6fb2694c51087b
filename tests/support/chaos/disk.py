"""A disk that can be full: under temporary files, shared counts and the log."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.ports import family

BYTES = 256 << 20
STEPS = (1 << 20, 1 << 12, 1)


class Disk:
    """A small file system in memory, which needs the right to mount one.

    Without that right, no file of the processes may grow while the disk counts as full.
    """

    def __init__(self, folder: Path, *, is_mounted: bool) -> None:
        self.folder = folder
        self.is_mounted = is_mounted

    @contextmanager
    def full(self, pids: Iterable[int]) -> Iterator[None]:
        """Have no room for a while, for anybody or for some processes and those below them."""
        with self._filled() if self.is_mounted else _limited(pids):
            yield

    @contextmanager
    def _filled(self) -> Iterator[None]:
        file = self.folder / "fill"
        try:
            with file.open("wb", buffering=0) as filling:
                for step in STEPS:
                    _write_until_full(filling.fileno(), bytes(step))
            yield
        finally:
            file.unlink()


@contextmanager
def open_disk(folder: Path) -> Iterator[Disk]:
    """Make a disk, and unmount it at the end."""
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={BYTES},mode=0755", "tmpfs", str(folder)]
    mounting = subprocess.run(["mount", *options], capture_output=True, check=False)
    is_mounted = mounting.returncode == 0
    try:
        yield Disk(folder, is_mounted=is_mounted)
    finally:
        if is_mounted:
            # Lazily: a process that was killed may hold a file for a moment longer.
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _write_until_full(descriptor: int, data: bytes) -> None:
    with suppress(OSError):
        while True:
            os.write(descriptor, data)


@contextmanager
def _limited(pids: Iterable[int]) -> Iterator[None]:
    everyone = {member for pid in pids for member in family(pid)}
    _limit(everyone, 1)
    try:
        yield
    finally:
        # Those that began meanwhile have the limit from their parents.
        _limit(everyone | {member for pid in everyone for member in family(pid)}, None)


def _limit(pids: Iterable[int], size: int | None) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            _, most = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (most if size is None else size, most))
