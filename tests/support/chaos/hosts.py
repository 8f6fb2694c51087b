"""Hosts of their own for processes: the clocks, and the name server, can be told to fail."""

from __future__ import annotations

import itertools
import shutil
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SOURCE = Path(__file__).with_name("host.c")
ANSWERS, SILENT = 0, 1


def can_be_made() -> bool:
    """Tell whether there is a compiler, without which all hosts are this one."""
    return shutil.which("cc") is not None


class Number:
    """A number in a file, which processes have mapped."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.set(0)

    def set(self, value: int) -> None:
        """Change the number at once; the file stays the same."""
        mode = "r+b" if self.file.exists() else "w+b"
        with self.file.open(mode) as file:
            file.write(struct.pack("=q", value))

    @contextmanager
    def being(self, value: int) -> Iterator[None]:
        """Be another number for a while."""
        self.set(value)
        try:
            yield
        finally:
            self.set(0)


class Hosts:
    """Makes hosts, which share a name server that knows every name below `.test`.

    The C library's functions are replaced in the processes by a library that is loaded before it:
    so neither needs a right that an ordinary account lacks.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = itertools.count()
        self._library = _compile(folder) if can_be_made() else None
        self.names = Number(folder / "names")

    def add(self) -> tuple[Number, dict[str, str]]:
        """Return the clock of a new host, in seconds ahead, and the variables of its processes."""
        clock = Number(self._folder / f"clock-{next(self._numbers)}")
        if self._library is None:
            return clock, {}
        files = {"CHAOS_CLOCK": str(clock.file), "CHAOS_NAMES": str(self.names.file)}
        return clock, files | {"LD_PRELOAD": str(self._library)}

    def named(self, name: str, url: str) -> str:
        """Return a URL of this machine with a name that the name server has to be asked for."""
        return url.replace("127.0.0.1", f"{name}.test") if self._library is not None else url


def _compile(folder: Path) -> Path:
    library = folder / "host.so"
    command = ["cc", "-O1", "-Wall", "-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl"]
    subprocess.run(command, check=True)
    return library
