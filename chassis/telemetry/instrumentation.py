"""Spans around calls of other services: commands of Redis, and HTTP requests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from http import HTTPStatus
from typing import Any

from opentelemetry.trace import INVALID_SPAN, Span, SpanKind, Status, StatusCode

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
            fail(started, type(error).__name__)
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
        fail(called, str(status))


def fail(failed: Span, name: str) -> None:
    """Say on a call's span why it failed."""
    failed.set_attribute("error.type", name)
    failed.set_status(Status(StatusCode.ERROR, name))


def _is_traced() -> bool:
    if not _settings["exported"] or is_unrecorded():
        return False
    from opentelemetry.instrumentation.utils import is_instrumentation_enabled  # noqa: PLC0415

    return is_instrumentation_enabled()
