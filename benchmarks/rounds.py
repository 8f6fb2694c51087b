"""The figures of several rounds in short: medians, spreads, ratios, and their noise.

Each round measures everybody once, so a ratio is taken within a round, where both met the
same weather, and only then summed up over the rounds.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

Row = Mapping[str, Any]


class Summary(NamedTuple):
    """The middle of some figures and how far they spread."""

    median: float
    low: float
    high: float
    rounds: int

    def text(self, digits: int = 2) -> str:
        """Render as `median (low-high)`, or the only figure."""
        if self.rounds == 1:
            return f"{self.median:,.{digits}f}"
        return f"{self.median:,.{digits}f} ({self.low:,.{digits}f}\u2013{self.high:,.{digits}f})"


def summarize(values: Iterable[float]) -> Summary | None:
    """Return median, smallest and largest; None without a value."""
    ordered = sorted(values)
    if not ordered:
        return None
    return Summary(statistics.median(ordered), ordered[0], ordered[-1], len(ordered))


def select(rows: Iterable[Row], **wanted: object) -> list[Row]:
    """Return the rows that have all the wanted values."""
    return [row for row in rows if all(row.get(name) == each for name, each in wanted.items())]


def by_round(rows: Iterable[Row], field: str, **wanted: object) -> dict[int, float]:
    """Return round -> a field's value, for the rows that have it."""
    found = select(rows, **wanted)
    return {row["round"]: row[field] for row in found if row.get(field) is not None}


def ratios(
    rows: Sequence[Row], field: str, over: str, under: str, **wanted: object
) -> Summary | None:
    """Compare two subjects round by round: the figure of `over` divided by that of `under`."""
    numerators = by_round(rows, field, subject=over, **wanted)
    denominators = by_round(rows, field, subject=under, **wanted)
    shared = numerators.keys() & denominators.keys()
    return summarize(numerators[each] / denominators[each] for each in shared)


def noise(rows: Sequence[Row], field: str, **wanted: object) -> Summary | None:
    """Return what the ratio of the service to itself came to; a perfect machine would say 1."""
    return ratios(rows, field, "twin", "ours", **wanted)
