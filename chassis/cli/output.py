"""Files that are written whole, and progress on a terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import click


@contextmanager
def written_whole(path: Path) -> Iterator[BinaryIO]:
    """Open a file that appears, or replaces an older one, only when the block succeeds."""
    if str(path) == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()  # else a closed pipe would show only at the exit
    elif path.exists() and not path.is_file():  # a pipe or a device cannot be replaced
        with path.open("wb") as file:
            yield file
    else:
        path = path.resolve()  # a symbolic link stays, and leads to the new file
        partial_file = path.with_name(f"{path.name}.{os.getpid()}.part")
        try:
            with partial_file.open("xb") as file:
                if path.exists():  # keep the permissions of the file that is replaced
                    partial_file.chmod(path.stat().st_mode)
                yield file
            partial_file.replace(path)
        finally:
            partial_file.unlink(missing_ok=True)


def progress(label: str, length: int | None) -> Any:
    """Show progress on a terminal, and nothing elsewhere."""
    return click.progressbar(
        length=length, label=label, file=sys.stderr, hidden=not sys.stderr.isatty()
    )
