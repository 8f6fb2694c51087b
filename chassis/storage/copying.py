"""Insert many rows into a table of PostgreSQL with COPY, the fastest way to do so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import StringIO
from itertools import chain
from typing import Any

from sqlalchemy import Connection, Dialect

Row = Sequence[str | None]

_NULL = r"\N"
# COPY's text format escapes the characters that would end a value or a line.
_ESCAPES = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})


def copy_rows(
    connection: Connection,
    table: str,
    columns: Sequence[str],
    rows: Sequence[Row],
    shared: Mapping[str, Any],
) -> None:
    """Insert rows in the caller's transaction.

    Args:
        connection: The connection of that transaction.
        table: The table's name.
        columns: The columns of `rows`.
        rows: The values of `columns` for each row, as text; None is NULL.
        shared: The other columns, with the value that all rows have.

    Raises:
        IntegrityError: a row breaks a rule of the table. The transaction has failed; only a
            rollback, or a return to a savepoint, can follow.
    """
    statement = f"COPY {table} ({', '.join([*columns, *shared])}) FROM STDIN"
    options = {"copied": _text(rows, [str(value) for value in shared.values()])}
    connection.exec_driver_sql(statement, execution_options=options)


def support_copy(dialect: Dialect) -> None:
    """Make a dialect execute the COPY statements of `copy_rows`.

    COPY is then a statement like any other, with the same errors, spans and limit of time.
    """
    execute = dialect.do_execute

    def copy_or_execute(cursor: Any, statement: str, parameters: Any, context: Any = None) -> None:
        text = context.execution_options.get("copied") if context is not None else None
        if text is None:
            execute(cursor, statement, parameters, context)
        else:
            cursor.copy_expert(statement, StringIO(text))

    # Not an event: its first listener executes, and the tracing listeners would see nothing.
    dialect.do_execute = copy_or_execute  # type: ignore[method-assign]  # of this one object


def _text(rows: Sequence[Row], shared: Row) -> str:
    end = "\t".join(["", *_escaped(shared)]) + "\n"
    # One look at all values together: a look at each would cost more than all the rest.
    values = "".join(filter(None, chain.from_iterable(rows)))
    is_plain = not any(chr(special) in values for special in _ESCAPES)
    lines = [_nulls(row) if is_plain else _escaped(row) for row in rows]
    return "".join(["\t".join(line) + end for line in lines])


def _nulls(row: Row) -> list[str]:
    return [_NULL if value is None else value for value in row]


def _escaped(row: Row) -> list[str]:
    return [_NULL if value is None else value.translate(_ESCAPES) for value in row]
