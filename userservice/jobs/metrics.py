"""Metrics about imports; every label value is bounded."""

from __future__ import annotations

from prometheus_client import Counter

from chassis.once import once


def count_import(*, created: int, refused: int) -> None:
    """Count the imported and the refused lines of uploads."""
    _import_lines().labels("created").inc(created)
    _import_lines().labels("refused").inc(refused)


def prepare() -> None:
    """Show the counts from the start."""
    count_import(created=0, refused=0)


@once
def _import_lines() -> Counter:
    return Counter("import_lines_total", "Lines of uploads, by what became of them.", ["result"])
