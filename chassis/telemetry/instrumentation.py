"""Spans around calls of libraries: commands of Redis, HTTP requests, SQL statements."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from http import HTTPStatus
from typing import Any

from opentelemetry import trace
from opentelemetry.trace import INVALID_SPAN, Span, SpanKind, Status, StatusCode
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


@contextmanager
def client_span(method: str, url: str, host: str, port: int) -> Iterator[Span]:
    """Give a call of another service over HTTP a span, whose trace that service continues.

    In a trace that is not recorded, and where spans are not exported, it has none.

    Args:
        method: The method, which names the span.
        url: The URL without the parts that may be secret.
        host: The service's host.
        port: The service's port.
    """
    if not _is_traced():
        yield INVALID_SPAN
        return
    attributes: dict[str, str | int] = {
        "http.request.method": method,
        "url.full": url,
        "server.address": host,
        "server.port": port,
    }
    with tracer.start_as_current_span(
        method,
        kind=SpanKind.CLIENT,
        attributes=attributes,
        record_exception=False,
        set_status_on_exception=False,
    ) as started:
        try:
            yield started
        except Exception as error:
            _fail(started, type(error).__name__)
            raise


def client_spans() -> AbstractContextManager[None]:
    """Give the calls in a block spans; in a trace that is not recorded they cost nothing."""
    if not (_settings["exported"] and is_unrecorded()):
        return nullcontext()
    from opentelemetry.instrumentation.utils import suppress_instrumentation  # noqa: PLC0415

    return suppress_instrumentation()


def note_status(called: Span, status: int) -> None:
    """Say on a call's span how it was answered."""
    called.set_attribute("http.response.status_code", status)
    if status >= HTTPStatus.BAD_REQUEST:
        _fail(called, str(status))


def _is_traced() -> bool:
    if not _settings["exported"] or is_unrecorded():
        return False
    from opentelemetry.instrumentation.utils import is_instrumentation_enabled  # noqa: PLC0415

    return is_instrumentation_enabled()


def _fail(failed: Span, name: str) -> None:
    failed.set_attribute("error.type", name)
    failed.set_status(Status(StatusCode.ERROR, name))


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
            _fail(started, type(error).__name__)
            raise
        finally:
            started.end()
        return True

    return execute_traced
