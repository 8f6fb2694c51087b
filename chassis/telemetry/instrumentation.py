"""Spans around calls of libraries: commands of Redis, HTTP requests, SQL statements."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from sqlalchemy import Engine, event

from chassis.telemetry.tracing import is_unrecorded, tracer

_settings = {"exported": False}


def trace_clients(*, exported: bool) -> None:
    """Set whether spans are exported; clients of other services are traced only then."""
    _settings["exported"] = exported


def trace_redis(client: Any) -> None:
    """Give each command of a Redis client a span: the command, never the values."""
    if _settings["exported"]:
        from opentelemetry.instrumentation.redis import RedisInstrumentor  # noqa: PLC0415

        RedisInstrumentor.instrument_client(client)


def trace_http(client: Any) -> None:
    """Give each request of an HTTP client a span: its URL, without parts that may be secret."""
    if _settings["exported"]:
        from opentelemetry.instrumentation.httpx import HTTPX2ClientInstrumentor  # noqa: PLC0415

        HTTPX2ClientInstrumentor.instrument_client(client, request_hook=_shorten_url)


def client_spans() -> AbstractContextManager[None]:
    """Give the calls in a block spans; in a trace that is not recorded they cost nothing."""
    if not (_settings["exported"] and is_unrecorded()):
        return nullcontext()
    from opentelemetry.instrumentation.utils import suppress_instrumentation  # noqa: PLC0415

    return suppress_instrumentation()


def _shorten_url(started: Span, request: Any) -> None:
    """Remove a password or token, which an operator's setting may hold, from a span's URL."""
    url = str(request.url.copy_with(userinfo=b"", query=None, fragment=None))
    names = {"url.full", "http.url"} & getattr(started, "attributes", {}).keys()
    started.set_attributes(dict.fromkeys(names, url))


def _operation(statement: str) -> str:
    """Return a statement's operation, such as SELECT; after WITH it stands further behind."""
    first = statement.split(None, 1)[0].upper()
    if first != "WITH":
        return first
    change = re.search(r"(?<!FOR )\b(INSERT|UPDATE|DELETE)\b", statement)
    return change[1] if change else "SELECT"


def trace_statements(engine: Engine) -> None:
    """Give each statement a span, where the trace is recorded: the text, never the values."""
    # Events of the dialect: a connection's events would cost each connection, traced or not.
    for name in ("do_execute", "do_executemany", "do_execute_no_params"):
        event.listen(engine, name, _traced_execution(engine, getattr(engine.dialect, name)))


def _traced_execution(engine: Engine, execute: Callable[..., None]) -> Callable[..., bool]:
    fixed = {"db.system.name": engine.dialect.name, "db.namespace": engine.url.database or ""}

    def execute_traced(cursor: Any, statement: str, *rest: Any) -> bool:
        """Execute a statement and return True, or return False to leave it to SQLAlchemy."""
        if not trace.get_current_span().is_recording():
            return False
        operation = _operation(statement)
        attributes = {**fixed, "db.operation.name": operation, "db.query.text": statement}
        started = tracer.start_span(operation, kind=SpanKind.CLIENT, attributes=attributes)
        try:
            execute(cursor, statement, *rest)
        except Exception as error:
            name = type(error).__name__
            started.set_attribute("error.type", name)
            started.set_status(Status(StatusCode.ERROR, name))
            raise
        finally:
            started.end()
        return True

    return execute_traced
