"""Statements sent to PostgreSQL, written down as psql reads them, and sent again."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, event

# The rows of a COPY follow it, up to a line of their own. A quote inside quotes is doubled.
STATEMENT = re.compile(
    r"(?P<copy>COPY [^;]+);\n(?P<rows>(?:.*\n)*?)\\\.\n|(?P<other>(?:'[^']*'|[^';])+);\n"
)
QUOTED_OR_BLANK = re.compile(r"('[^']*')|\s+")


@contextmanager
def recording(engine: Engine) -> Iterator[list[str]]:
    """Yield a list that takes in every statement that succeeds, with its values and its end."""
    statements: list[str] = []

    def note(cursor: Any, sql: str, values: Any, context: Any) -> None:
        copied = context.execution_options.get("copied") if context is not None else None
        end = ";\n" if copied is None else f";\n{copied}\\.\n"
        line = QUOTED_OR_BLANK.sub(lambda found: found[1] or " ", sql)
        statements.append(cursor.mogrify(line, values).decode() + end)

    def execute(cursor: Any, sql: str, values: Any, context: Any) -> bool:
        engine.dialect.do_execute(cursor, sql, values, context)
        note(cursor, sql, values, context)
        return True

    def execute_many(cursor: Any, sql: str, every: Any, context: Any) -> bool:
        engine.dialect.do_executemany(cursor, sql, every, context)
        for values in every:
            note(cursor, sql, values, context)
        return True

    # Prepared statements have no other events.
    event.listen(engine, "do_execute", execute)
    event.listen(engine, "do_executemany", execute_many)
    yield statements
    event.remove(engine, "do_execute", execute)
    event.remove(engine, "do_executemany", execute_many)


def replay(connection: Connection, file: Path, *, until: str | None = None) -> int:
    """Send the statements of a file, up to the first that begins so; return how many."""
    cursor = connection.connection.cursor()
    count = 0
    for sql, rows in _statements(file.read_bytes().decode()):
        if until is not None and sql.startswith(until):
            break
        if rows is None:
            cursor.execute(sql)
        else:
            cursor.copy_expert(sql, StringIO(rows))
        count += 1
    return count


def _statements(text: str) -> Iterator[tuple[str, str | None]]:
    """Yield each statement, and the rows of a COPY."""
    end = 0
    while end < len(text):
        found = STATEMENT.match(text, end)
        assert found, f"no statement: {text[end : end + 80]}"
        yield found["copy"] or found["other"], found["rows"]
        end = found.end()
