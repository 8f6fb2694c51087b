"""Tables that a test has for itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Table

from chassis.storage.database import DatabaseManager


@contextmanager
def existing(table: Table, database: DatabaseManager) -> Iterator[None]:
    """Make a table, and drop it at the end of the block."""
    with database.connection() as connection:
        table.create(connection)
    yield
    with database.connection() as connection:
        table.drop(connection)
