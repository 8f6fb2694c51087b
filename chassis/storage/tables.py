"""Declarations of tables: how their rows go, and the numbers that operators are shown of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from sqlalchemy import text

from chassis.storage.database import DatabaseManager


class Count(Protocol):
    """Says how many rows a purge would remove."""

    def __call__(self, database: DatabaseManager, *, before: datetime) -> int:
        """Count the rows that nobody has needed since `before`."""


class Run(Protocol):
    """Removes these rows."""

    def __call__(self, database: DatabaseManager, *, before: datetime) -> Iterator[int]:
        """Remove the rows in batches, and yield the size of each."""


@dataclass(frozen=True, slots=True)
class Purge:
    """How the rows of a table go that are no longer needed."""

    count: Count
    run: Run


@dataclass(frozen=True, slots=True)
class Unpurged:
    """A table that needs no purge, and the reason, as a sentence."""

    reason: str


# Table -> how its rows go. Every table is declared once.
Tables = Mapping[str, Purge | Unpurged]


def purge_expired(
    count: Callable[[DatabaseManager], int], run: Callable[[DatabaseManager], Iterator[int]]
) -> Purge:
    """Declare that rows carry their own end: the age that operators ask for does not matter."""

    def count_all(database: DatabaseManager, *, before: datetime) -> int:  # noqa: ARG001 - see above
        return count(database)

    def run_all(database: DatabaseManager, *, before: datetime) -> Iterator[int]:  # noqa: ARG001
        return run(database)

    return Purge(count_all, run_all)


@dataclass(frozen=True, slots=True)
class StoredMetric:
    """Numbers that the database knows, told apart by one label, for `admin export-metrics`."""

    name: str
    help: str
    label: str
    read: Callable[[DatabaseManager], Mapping[str, float]]


def sizes(database: DatabaseManager, tables: Iterable[str]) -> dict[str, int]:
    """Return table -> bytes on disk, indexes included; SQLite knows the size of all only."""
    with database.connection() as connection:
        if database.is_sqlite:
            pages = text("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")
            return {"all": int(connection.scalar(pages) or 0)}
        size = text("SELECT pg_total_relation_size(to_regclass(:table))")
        return {table: int(connection.scalar(size, {"table": table}) or 0) for table in tables}
