"""Commands that documents show: in blocks of a shell, and between backticks in a sentence."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.support.processes import ROOT

BLOCK = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`]+)`")
SETTING = re.compile(r"\w+=\S*")
PROGRAMS = {"kubectl", "docker", "kustomize", "admin", "make"}
SERVICE = ("python", "app.py")
SEPARATORS = {";", "&&", "||", "|", "&", ">"}
# They tell of what is meant, or was; nobody types them in.
NARRATIVES = re.compile(r"docs/adr/|CHANGELOG\.md")


class Command(NamedTuple):
    """A command, as a shell would split it, and where it stands."""

    file: str
    folder: Path  # the working directory
    words: tuple[str, ...]
    is_mention: bool  # in a narrative, where a verb may stand alone
    is_typed: bool  # in a block of a shell, with all its arguments

    def __str__(self) -> str:
        return f"{self.file}: {shlex.join(self.words)}"


def documents() -> list[Path]:
    """Return the project's own documents."""
    return [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / ".github").rglob("*.md")]


def commands_in(text: str, file: str = "") -> Iterator[Command]:
    """Yield the commands of a document.

    Raises:
        ValueError: a quotation mark of a command is not closed.
    """
    for language, body in BLOCK.findall(text):
        if language in {"sh", "console", "bash"}:
            yield from _of_block(body, file)
    for code in CODE.findall(BLOCK.sub("", text)):
        line = " ".join(code.split())
        if is_command(line.split()):
            yield from _of_line(line, file, ROOT, is_typed=False)


def _of_block(body: str, file: str) -> Iterator[Command]:
    folder = ROOT
    for line in re.sub(r"\\\n\s*", "", body).splitlines():
        text = line.strip().removeprefix("$ ")
        if text.startswith("cd "):
            folder = ROOT / text.removeprefix("cd ")
        if PROGRAMS & {*text.split()} or " ".join(SERVICE) in text:
            yield from _of_line(text, file, folder, is_typed=True)


def _of_line(line: str, file: str, folder: Path, *, is_typed: bool) -> Iterator[Command]:
    lexer = shlex.shlex(line.replace("…", ""), posix=True, punctuation_chars=";&|>")
    lexer.commenters = "#"
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, ";"]:
        if word not in SEPARATORS:
            words.append(word)
            continue
        command = tuple(without_settings(words))
        if is_command(command):
            yield Command(
                file,
                folder,
                command,
                is_mention=bool(NARRATIVES.search(file)),
                is_typed=is_typed,
            )
        words = []


def without_settings(words: list[str]) -> list[str]:
    """Drop the variables that stand before a command."""
    while words and SETTING.fullmatch(words[0]):
        words = words[1:]
    return words


def is_command(words: list[str] | tuple[str, ...]) -> bool:
    """Tell whether words run a program that is checked; its bare name is no command."""
    return len(words) > 1 and (words[0] in PROGRAMS or tuple(words[:2]) == SERVICE)


def every_command() -> list[Command]:
    """Return the commands of all documents."""
    return [
        command
        for file in documents()
        for command in commands_in(file.read_text(encoding="utf-8"), str(file.relative_to(ROOT)))
    ]
