"""Spans around SQL statements: their texts, never their values."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind
from sqlalchemy import Engine, event

from chassis.telemetry.instrumentation import fail
from chassis.telemetry.tracing import tracer

_DEFAULT_PORTS = {"postgresql": 5432}
# The change in a statement that begins with WITH, and not in FOR UPDATE or DO UPDATE.
_CHANGE = re.compile(r"(?<!FOR )(?<!DO )\b(INSERT|UPDATE|DELETE)\b", re.IGNORECASE)
# Operation -> words before the table.
_BEFORE = {
    "SELECT": "FROM",
    "INSERT": "INSERT INTO",
    "UPDATE": "UPDATE",
    "DELETE": "DELETE FROM",
    "COPY": "COPY",
}
_NAME = r'\s+(?:ONLY\s+)?"?([\w.$]+)"?(?![\w.$"])'
# A bracket stands behind a function's name, as in FROM now(), and behind a table with its columns.
_NO_CALL = r"(?!\s*\()"


class Summary(NamedTuple):
    """The sense of a statement; `collection` is the first table in it, or empty."""

    operation: str
    collection: str


@lru_cache(maxsize=512)
def summarize(statement: str) -> Summary:
    """Read a statement's operation, such as SELECT, and its table."""
    first = statement.split(None, 1)[0].upper() if statement.strip() else ""
    if first == "WITH":
        change = _CHANGE.search(statement)
        first = change[1].upper() if change else "SELECT"
    if first not in _BEFORE:
        return Summary(first, "")
    words = _BEFORE[first].replace(" ", r"\s+")
    end = _NO_CALL if first == "SELECT" else ""
    found = re.search(rf"(?<!FOR )(?<!DO )\b{words}{_NAME}{end}", statement, re.IGNORECASE)
    return Summary(first, found[1] if found else "")


def trace_statements(engine: Engine) -> None:
    """Give each statement a span, where the trace is recorded: the text, never the values."""
    # Events of the dialect: a connection's events would cost each connection, traced or not.
    for name in ("do_execute", "do_executemany", "do_execute_no_params"):
        event.listen(engine, name, _traced_execution(engine, getattr(engine.dialect, name)))


def _traced_execution(engine: Engine, execute: Callable[..., None]) -> Callable[..., bool]:
    place = _describe(engine)
    # A file would be a name as long as its path.
    whole = "" if engine.dialect.name == "sqlite" else engine.url.database or ""

    def execute_traced(cursor: Any, statement: str, *rest: Any) -> bool:
        """Execute a statement and return True, or return False to leave it to SQLAlchemy."""
        if not trace.get_current_span().is_recording():
            return False
        summary = summarize(statement)
        name = f"{summary.operation} {summary.collection or whole}".rstrip()
        attributes = {**place, **_attributes(statement, summary)}
        started = tracer.start_span(name, kind=SpanKind.CLIENT, attributes=attributes)
        try:
            execute(cursor, statement, *rest)
        except Exception as error:
            _note_failure(started, error)
            raise
        finally:
            started.end()
        return True

    return execute_traced


def _describe(engine: Engine) -> dict[str, str | int]:
    """Return the attributes that all statements of an engine have in common."""
    system = engine.dialect.name
    found = {
        "db.system.name": system,
        "db.namespace": engine.url.database,
        "server.address": engine.url.host,
        "server.port": engine.url.host and (engine.url.port or _DEFAULT_PORTS.get(system)),
    }
    return {name: value for name, value in found.items() if value}


def _attributes(statement: str, summary: Summary) -> dict[str, str]:
    found = {
        "db.operation.name": summary.operation,
        "db.query.text": statement,
        "db.query.summary": " ".join(filter(None, summary)),
        "db.collection.name": summary.collection,
    }
    return {name: value for name, value in found.items() if value}


def _note_failure(failed: Span, error: Exception) -> None:
    """Say why a statement failed: PostgreSQL by its SQLSTATE, SQLite by its number."""
    code = getattr(error, "pgcode", None) or getattr(error, "sqlite_errorcode", None)
    if code is not None:
        failed.set_attribute("db.response.status_code", str(code))
    fail(failed, type(error).__name__)
