"""The picture of the rooms, drawn from the import contracts in pyproject.toml."""  # noqa: INP001 - beside the documents

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from textwrap import wrap

ROOT = Path(__file__).resolve().parent.parent
WIDTH, MARGIN, GAP = 1140, 20, 12
TITLE, LINE, PADDING = 22, 15, 10
CHARACTER = 6.6  # width of one in the small type
LETTER = 8.5  # width of one in a name
LEGEND = "Imports go down; rooms side by side are strangers. Blue knows Flask, as routes do."
STYLE = """\
text { font: 12px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; fill: #1f2933 }
.name { font-weight: bold; font-size: 14px }
.file { fill: #52606d; font-size: 11px }
.house { fill: #f5f7fa; stroke: #9aa5b1 }
.room { fill: #ffffff; stroke: #3e7cb1 }
.flask { fill: #e6f1fb }"""


@dataclass(frozen=True)
class Room:
    """A package or module, with its files."""

    name: str
    files: tuple[str, ...]

    def lines(self, width: float) -> list[str]:
        """Return the names of its files, broken to fit."""
        return wrap(" ".join(self.files), int((width - 2 * PADDING) / CHARACTER))

    def height(self, width: float) -> int:
        """Return the height in pixels."""
        return (TITLE if self.name else 0) + PADDING + LINE * len(self.lines(width))


@dataclass(frozen=True)
class House:
    """Rooms in rows: a row may import what lies below it."""

    name: str
    meaning: str
    rows: Sequence[Sequence[Room]]


def picture() -> str:
    """Return the SVG."""
    top = MARGIN
    parts: list[str] = []
    for house in houses():
        drawn, height = draw_house(house, top)
        parts += drawn
        top += height + GAP
    height = top + MARGIN
    parts.append(text("file", MARGIN, top + 8, LEGEND))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}"'
        f' width="{WIDTH}" height="{height}" role="img">\n<title>Who may import whom</title>\n'
        f'<style>{STYLE}</style>\n<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def houses() -> Iterator[House]:
    """Yield the root and the packages, as the contracts order them."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = {
        each["containers"][0]: [re.sub(r"[()]", "", layer) for layer in each["layers"]]
        for each in contracts["tool"]["importlinter"]["contracts"]
        if "containers" in each
    }
    root = tuple(file.name for file in sorted(ROOT.glob("*.py")))
    yield House("the root", "processes: start, stop, environment", [[Room("", root)]])
    for package, meaning in (
        ("userservice", "what this service is about: a package is a resource"),
        ("chassis", "what the service stands on: knows no resource"),
    ):
        rows = [
            [room(package, name) for name in re.split(r"[ |:]+", layer)]
            for layer in layers[package]
        ]
        yield House(f"{package}/", meaning, rows)


def room(package: str, name: str) -> Room:
    """Read which files a room has."""
    folder = ROOT / package / name
    files = sorted(file.stem for file in folder.glob("*.py") if file.stem != "__init__")
    return Room(f"{name}/" if folder.is_dir() else f"{name}.py", tuple(files))


def width_in(row: Sequence[Room]) -> float:
    """Return the width of each room in a row, in pixels."""
    return (WIDTH - 2 * MARGIN - 2 * PADDING - GAP * (len(row) - 1)) / len(row)


def draw_house(house: House, top: int) -> tuple[list[str], int]:
    """Return the drawing of a house, and its height."""
    line = top + TITLE - 4
    indent = MARGIN + PADDING + (len(house.name) + 1) * 9
    parts = [
        text("name", MARGIN + PADDING, line, house.name),
        text("file", indent, line, house.meaning),
    ]
    y = top + TITLE + PADDING
    for row in house.rows:
        width = width_in(row)
        height = max(each.height(width) for each in row)
        for index, each in enumerate(row):
            x = MARGIN + PADDING + index * (width + GAP)
            parts += draw_room(each, x, y, width, height)
        y += height + GAP
    height = y - top
    return [box("house", MARGIN, top, WIDTH - 2 * MARGIN, height), *parts], height


def draw_room(each: Room, x: float, y: float, width: float, height: float) -> Iterator[str]:
    """Yield the drawing of a room."""
    yield box("room flask" if each.name == "http/" else "room", x, y, width, height)
    yield text("name", x + PADDING, y + TITLE - 5, each.name)
    first = y + TITLE + LINE - 5 if each.name else y + TITLE - 5
    for number, line in enumerate(each.lines(width)):
        yield text("file", x + PADDING, first + number * LINE, line)


def box(kind: str, x: float, y: float, width: float, height: float) -> str:
    """Return a rectangle."""
    return (
        f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}"'
        f' height="{height:.1f}" rx="4"/>'
    )


def text(kind: str, x: float, y: float, content: str) -> str:
    """Return a line of text."""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{escape(content)}</text>'
