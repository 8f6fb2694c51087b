"""Columns that are alike on PostgreSQL and SQLite, and the base of all tables."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, DateTime, Dialect, MetaData, exc
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator


class UtcDateTime(TypeDecorator[datetime]):
    """A point in time, always aware and in UTC.

    SQLite stores no zone, so a value that is read back is in UTC, as it was written.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Turn an aware time into UTC; a naive one is a bug."""
        if value is None:
            return None
        if value.tzinfo is None:
            msg = "a naive datetime has no place in the database; make it aware"
            raise ValueError(msg)
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return an aware time in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if dialect.name == "sqlite" else value.astimezone(UTC)


class Base(DeclarativeBase):
    """Tables register here; constraints get names that migrations can refer to."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {datetime: UtcDateTime}  # noqa: RUF012 - SQLAlchemy reads it off the class


class json_object(FunctionElement[dict[str, Any]]):  # noqa: N801 - is called like a function of SQL
    """A JSON object that the database makes, of names and values in turn."""

    type = JSON()
    inherit_cache = True


@compiles(json_object)
def _on_postgresql(element: json_object, compiler: Any, **options: Any) -> str:
    return f"json_build_object({compiler.process(element.clauses, **options)})"


@compiles(json_object, "sqlite")
def _on_sqlite(element: json_object, compiler: Any, **options: Any) -> str:
    return f"json_object({compiler.process(element.clauses, **options)})"


def violates_unique(error: exc.IntegrityError, table: str, column: str) -> bool:
    """Tell whether this unique index refused: PostgreSQL names the index, SQLite the column."""
    message = str(error.orig)
    return f'"uq_{table}_{column}"' in message or f"{table}.{column}" in message
