"""The database's clock: the one that all processes have in common, whatever their hosts' say."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Float, literal, literal_column, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from chassis.storage.columns import UtcDateTime

NO_TIME = timedelta(0)


class from_now(FunctionElement[datetime]):  # noqa: N801 - is called like a function of SQL
    """A point in time in SQL, some seconds after the statement began (or its transaction)."""

    type = UtcDateTime()
    inherit_cache = True


def database_time(span: timedelta = NO_TIME, *, now: datetime | None = None) -> ColumnElement[Any]:
    """Return the time after `span`, for use in a statement.

    Args:
        span: How long from now; negative for the past.
        now: Counts instead of the database's clock; tests own the time with it.
    """
    if now is not None:
        return literal(now + span, UtcDateTime())
    return from_now(literal_column(repr(span.total_seconds()), Float()))


def read_time(connection: Connection) -> datetime:
    """Return the database's time, for values that cannot be left to a statement."""
    told: datetime = connection.execute(select(database_time())).scalar_one()
    return told


@compiles(from_now)
def _on_postgresql(element: from_now, compiler: Any, **options: Any) -> str:
    # now() and not clock_timestamp(), with which no index can be used.
    return f"(now() + make_interval(secs => {compiler.process(element.clauses, **options)}))"


@compiles(from_now, "sqlite")
def _on_sqlite(element: from_now, compiler: Any, **options: Any) -> str:
    seconds = compiler.process(element.clauses, **options)
    # As UtcDateTime writes it, since it is compared as text: six digits behind the second.
    return f"strftime('%Y-%m-%d %H:%M:%f000', 'now', {seconds} || ' seconds')"
