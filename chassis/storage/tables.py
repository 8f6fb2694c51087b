"""Declarations of tables: the purge of their rows, and metrics that operators see."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from sqlalchemy import text

from chassis.storage.clock import read_time
from chassis.storage.database import DatabaseManager


class Count(Protocol):
    """Counts the rows that a purge would remove."""

    def __call__(self, database: DatabaseManager, *, before: datetime) -> int:
        """Count the rows that nobody has needed since `before`."""


class Run(Protocol):
    """Removes the rows that `Count` counts."""

    def __call__(self, database: DatabaseManager, *, before: datetime) -> Iterator[int]:
        """Remove the rows in batches, and yield the size of each."""


@dataclass(frozen=True, slots=True)
class Purge:
    """Counts and removes the rows of a table that are no longer needed.

    `days_setting` names the setting with the age of rows that have one of their own; else it is
    that of the operator, as all of them have it.
    """

    count: Count
    run: Run
    days_setting: str | None = None


@dataclass(frozen=True, slots=True)
class Unpurged:
    """A table that needs no purge, and the reason, as a sentence."""

    reason: str


# Table -> the purge of its rows. Every table is declared once.
Tables = Mapping[str, Purge | Unpurged]


def purge_expired(
    count: Callable[[DatabaseManager], int], run: Callable[[DatabaseManager], Iterator[int]]
) -> Purge:
    """Declare a purge of rows that carry their own expiry; the operator's `before` is ignored."""

    def count_all(database: DatabaseManager, *, before: datetime) -> int:  # noqa: ARG001 - see above
        return count(database)

    def run_all(database: DatabaseManager, *, before: datetime) -> Iterator[int]:  # noqa: ARG001
        return run(database)

    return Purge(count_all, run_all)


def horizons(
    database: DatabaseManager, purges: Mapping[str, Purge], settings: object, *, days: int
) -> dict[str, datetime]:
    """Return table -> the point in time before which its rows are old, by the database's clock.

    Args:
        database: The database.
        purges: Table -> the purge of its rows.
        settings: Holds the ages of tables that have one of their own.
        days: The age for all others.
    """
    with database.connection() as connection:
        now = read_time(connection)
    ages = {
        table: getattr(settings, each.days_setting) if each.days_setting else days
        for table, each in purges.items()
    }
    return {table: _before(now, age) for table, age in ages.items()}


def _before(now: datetime, days: int) -> datetime:
    try:
        return now - timedelta(days=days)
    except OverflowError:  # before the first year; no row is that old
        return datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class StoredMetric:
    """A metric that is read from the database, with one label, for `admin export-metrics`."""

    name: str
    help: str
    label: str
    read: Callable[[DatabaseManager], Mapping[str, float]]


def sizes(database: DatabaseManager, tables: Iterable[str]) -> dict[str, int]:
    """Return table -> bytes on disk, indexes included; SQLite knows only the size of all tables."""
    with database.connection() as connection:
        if database.is_sqlite:
            pages = text("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")
            return {"all": int(connection.scalar(pages) or 0)}
        size = text("SELECT pg_total_relation_size(to_regclass(:table))")
        return {table: int(connection.scalar(size, {"table": table}) or 0) for table in tables}
