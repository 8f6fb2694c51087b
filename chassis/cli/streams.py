"""Standard input, output and errors of a command: any of them may be closed, full or broken."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

import click


class InputFile(click.File):
    """A file to read bytes from; - is standard input."""

    def __init__(self) -> None:
        super().__init__("rb")

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Open the file."""
        if value == "-":
            standard_input()
        return super().convert(value, param, ctx)


def standard_input() -> TextIO:
    """Return standard input.

    Raises:
        click.ClickException: the caller closed it (<&-).
    """
    if sys.stdin is None:
        raise click.ClickException("Standard input is closed")
    return sys.stdin


def require_output() -> None:
    """Refuse to begin when nobody could read the result; messages may be lost.

    Raises:
        click.ClickException: the caller closed standard output (>&-).
    """
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - until the exit
    if sys.stdout is None:
        raise click.ClickException("Standard output is closed; /dev/null takes what is not needed")


def drop_unwritten() -> None:
    """Give up output that could not be written; the interpreter would fail on it at its end."""
    for stream in (sys.stdout, sys.stderr):
        if stream is None:
            continue
        try:
            stream.flush()
        except OSError:
            with suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
