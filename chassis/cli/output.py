"""Files that are written whole, and progress on a terminal."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import click

PRIVATE = 0o600
PUBLIC = 0o666  # less the umask, as for any file


@contextmanager
def written_whole(
    path: Path, *, mode: int = PRIVATE, keeps_mode: bool = True
) -> Iterator[BinaryIO]:
    """Open a file that appears, or replaces an older one, only when the block succeeds.

    Args:
        path: The file; - is standard output.
        mode: Permissions of a new file, less the umask.
        keeps_mode: Whether a file that is replaced hands on its own.
    """
    if str(path) == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()  # else a closed pipe would show only at the exit
    elif path.exists() and not path.is_file():  # a pipe or a device cannot be replaced
        with path.open("wb") as file:
            yield file
    else:
        # A symbolic link stays, and leads to the new file.
        with _replacing(path.resolve(), mode, keeps_mode=keeps_mode) as file:
            yield file


@contextmanager
def written_secretly(path: Path, *, holding: str) -> Iterator[BinaryIO]:
    """Do as `written_whole`, for secrets: only the owner may read the file, from its first byte.

    Args:
        path: The file; - is standard output.
        holding: The secrets, for the refusal.

    Raises:
        click.UsageError: the file is a terminal, which would show them.
    """
    with written_whole(path, keeps_mode=False) as file:
        if file.isatty():
            raise click.UsageError(f"The output holds {holding}: write it into a file")
        yield file


@contextmanager
def _replacing(path: Path, mode: int, *, keeps_mode: bool) -> Iterator[BinaryIO]:
    partial_file = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with open(partial_file, "xb", opener=partial(os.open, mode=mode)) as file:
            if keeps_mode and path.exists():
                os.fchmod(file.fileno(), stat.S_IMODE(path.stat().st_mode))
            yield file
            file.flush()
            os.fsync(file.fileno())  # a crash after the renaming must not leave an empty file
        partial_file.replace(path)
    except OSError as error:
        if error.filename == str(partial_file):  # a name that nobody has asked for
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    finally:
        partial_file.unlink(missing_ok=True)


def progress(label: str, length: int) -> Any:
    """Show progress on a terminal, and nothing elsewhere."""
    return click.progressbar(
        length=length, label=label, file=sys.stderr, hidden=not sys.stderr.isatty()
    )
