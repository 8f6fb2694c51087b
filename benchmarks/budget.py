"""The instruction budget: a request may take a little more than was recorded, and no more."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from benchmarks.cell import TITLES
from benchmarks.rounds import Row

FILE = Path(__file__).resolve().parent / "instructions.json"
TOLERANCE = 0.03

Counts = Mapping[str, int]  # workload -> instructions of a request


class OverBudget(Exception):
    """A request takes too many instructions; the message names it."""


def python_minor() -> str:
    """Return the Python that counts now, such as 3.13: each takes its own number."""
    return ".".join(platform.python_version_tuple()[:2])


def counts_of(rows: Iterable[Row]) -> dict[str, int]:
    """Return the counts of a run."""
    return {row["workload"]: row["instructions"] for row in rows if row["suite"] == "instructions"}


def overruns(now: Counts, recorded: Counts) -> Iterator[str]:
    """Name each request that takes 3 % more instructions than recorded, or was not counted."""
    for workload, before in recorded.items():
        title = TITLES[workload]
        if workload not in now:
            yield f"{title} was not counted"
        elif now[workload] > before * (1 + TOLERANCE):
            grown = now[workload] / before - 1
            yield f"{title} takes {now[workload]:,} instructions, {grown:.1%} over {before:,}"


def judge(now: Counts, python: str, file: Path = FILE) -> str:
    """Return a sentence about counts that are within the budget of a Python.

    Raises:
        OverBudget: naming all that grew too much; or there is no budget.
    """
    recorded = load(python, file)
    if not recorded:
        raise OverBudget(f"No budget for Python {python}: record=1 makes one of these counts")
    if grown := list(overruns(now, recorded)):
        raise OverBudget("; ".join(grown))
    figures = (f"{TITLES[each]} {now[each] / most - 1:+.1%}" for each, most in recorded.items())
    return f"Within the budget of Python {python}: {', '.join(figures)}"


def load(python: str, file: Path = FILE) -> dict[str, int]:
    """Return the counts that were recorded for a Python; none if there are none."""
    recorded: dict[str, dict[str, int]] = json.loads(file.read_text(encoding="utf-8"))
    return recorded.get(python, {})


def record(python: str, now: Counts, file: Path = FILE) -> None:
    """Make these counts the budget of a Python; those of others stay."""
    recorded = json.loads(file.read_text(encoding="utf-8")) | {python: dict(now)}
    file.write_text(json.dumps(recorded, indent=2, sort_keys=True) + "\n", encoding="utf-8")
