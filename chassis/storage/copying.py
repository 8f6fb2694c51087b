"""Many rows into a table of PostgreSQL by COPY, which is the fastest way there is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import StringIO
from itertools import chain
from typing import Any

from sqlalchemy import Connection, Dialect

Row = Sequence[str | None]

_NULL = r"\N"
# How COPY's text format writes what would end a value or a line.
_ESCAPES = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})


def copy_rows(
    connection: Connection,
    table: str,
    columns: Sequence[str],
    rows: Sequence[Row],
    shared: Mapping[str, Any],
) -> None:
    """Add rows in the caller's transaction.

    Args:
        connection: Where.
        table: Which table.
        columns: What `rows` give.
        rows: The values in which rows differ, as text; None is NULL.
        shared: The other columns.

    Raises:
        IntegrityError: a row breaks a rule of the table. The transaction has failed, back to
            its last savepoint.
    """
    statement = f"COPY {table} ({', '.join([*columns, *shared])}) FROM STDIN"
    options = {"copied": _text(rows, [str(value) for value in shared.values()])}
    connection.exec_driver_sql(statement, execution_options=options)


def support_copy(dialect: Dialect) -> None:
    """Have a dialect send what `copy_rows` gives it.

    As a statement like any other it has their errors, their spans, and an end when it stalls.
    """
    execute = dialect.do_execute

    def copy_or_execute(cursor: Any, statement: str, parameters: Any, context: Any = None) -> None:
        text = context.execution_options.get("copied") if context is not None else None
        if text is None:
            execute(cursor, statement, parameters, context)
        else:
            cursor.copy_expert(statement, StringIO(text))

    # Not an event: of its listeners the first executes, and no other could watch.
    dialect.do_execute = copy_or_execute  # type: ignore[method-assign]  # of this one object


def _text(rows: Sequence[Row], shared: Row) -> str:
    end = "\t".join(["", *_escaped(shared)]) + "\n"
    # One look at all values: to look at each would cost more than the rest of this.
    values = "".join(filter(None, chain.from_iterable(rows)))
    is_plain = not any(chr(special) in values for special in _ESCAPES)
    lines = [_nulls(row) if is_plain else _escaped(row) for row in rows]
    return "".join(["\t".join(line) + end for line in lines])


def _nulls(row: Row) -> list[str]:
    return [_NULL if value is None else value for value in row]


def _escaped(row: Row) -> list[str]:
    return [_NULL if value is None else value.translate(_ESCAPES) for value in row]
