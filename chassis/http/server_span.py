"""The span of a recorded request, as OpenTelemetry's conventions have it; loads the SDK."""

from __future__ import annotations

from collections.abc import Iterable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from flask import Flask, got_request_exception, request
from opentelemetry import context, trace
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.semconv.schemas import Schemas
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.util.http import (
    OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST,
    OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_RESPONSE,
    get_custom_headers,
)
from werkzeug.wsgi import ClosingIterator

from chassis.http.admission import STREAMED
from chassis.http.span_attributes import method_of, name_of, request_attributes
from chassis.telemetry.tracing import record_failure

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider

_FAILURE = "chassis.failure"
# Headers that hold credentials, as their attributes spell them: no operator wants these.
_CREDENTIALS = frozenset({"authorization", "proxy_authorization", "x_api_key", "cookie"})
_REDACTED = "[REDACTED]"  # as OpenTelemetry says it

# The trace id that the sampler decided on. The span that starts after its decision takes it.
_asked_trace_id: ContextVar[int | None] = ContextVar("asked_trace_id", default=None)


class AskedIdGenerator(RandomIdGenerator):
    """Gives a request's span the trace id that the sampler decided on."""

    def generate_trace_id(self) -> int:
        """Return the id that the sampler decided on, or a new one."""
        return _asked_trace_id.get() or super().generate_trace_id()


class ServerSpans:
    """Serves requests in spans of their own."""

    def __init__(self, app: Flask, provider: TracerProvider) -> None:
        schema = Schemas.V1_21_0.value
        self._tracer = provider.get_tracer("chassis.http", schema_url=schema)
        captures = (
            OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST,
            OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_RESPONSE,
        )
        self._captures_headers = any(get_custom_headers(variable) for variable in captures)
        got_request_exception.connect(_remember_failure, app)

    def serve(
        self,
        app: WSGIApplication,
        environ: WSGIEnvironment,
        start_response: StartResponse,
        *,
        parent: Context,
        trace_id: int,
    ) -> Iterable[bytes]:
        """Answer a request in a span, which ends when the answer has been made."""
        span = self._start(environ, parent, trace_id)

        def begin(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            self._describe(span, environ, int(status[:3]), headers)
            return start_response(status, headers, *more)

        token = context.attach(trace.set_span_in_context(span, parent))
        is_streamed = False
        try:
            answer = app(environ, begin)
            is_streamed = STREAMED in environ
            return ClosingIterator(answer, span.end) if is_streamed else answer
        except BaseException as error:
            span.set_attributes(request_attributes(environ))
            record_failure(span, error)
            raise
        finally:
            context.detach(token)
            if not is_streamed:
                span.end()

    def _start(self, environ: WSGIEnvironment, parent: Context, trace_id: int) -> Span:
        token = _asked_trace_id.set(trace_id)
        try:
            return self._tracer.start_span(method_of(environ), parent, SpanKind.SERVER)
        finally:
            _asked_trace_id.reset(token)

    def _describe(
        self, span: Span, environ: WSGIEnvironment, status: int, headers: list[tuple[str, str]]
    ) -> None:
        """Describe a request on its span, once its answer begins and proxies were heard."""
        attributes = request_attributes(environ)
        span.update_name(name_of(attributes))
        attributes["http.response.status_code"] = status
        if is_error := status >= 500 or status < 100:  # noqa: PLR2004 - the conventions' classes
            attributes["error.type"] = str(status)
        if self._captures_headers:
            attributes |= _captured_headers(environ, headers)
        span.set_attributes(attributes)
        if is_error:
            span.set_status(Status(StatusCode.ERROR))
        if _FAILURE in environ:
            record_failure(span, environ[_FAILURE])


def _remember_failure(_app: Flask, *, exception: BaseException, **_more: Any) -> None:
    request.environ[_FAILURE] = exception


def _captured_headers(
    environ: WSGIEnvironment, headers: list[tuple[str, str]]
) -> dict[str, list[str]]:
    from opentelemetry.instrumentation import wsgi  # noqa: PLC0415 - rarely configured

    captured = {
        **wsgi.collect_custom_request_headers_attributes(environ),
        **wsgi.collect_custom_response_headers_attributes(headers),
    }
    return {
        name: [_REDACTED] if name.rpartition(".")[2] in _CREDENTIALS else values
        for name, values in captured.items()
    }
