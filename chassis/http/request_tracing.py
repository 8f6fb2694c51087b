"""Server spans for requests; requests that are not recorded cost next to nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from random import getrandbits
from typing import TYPE_CHECKING, Any
from uuid import UUID

from flask import Flask, request
from opentelemetry import context, propagate, trace
from opentelemetry.instrumentation.wsgi import wsgi_getter
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, TraceFlags

from chassis.http.admission import EXEMPT
from chassis.telemetry.propagation import without_addresses
from chassis.telemetry.tracing import is_personal_data_allowed, record_failure

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from opentelemetry.sdk.trace import TracerProvider

RECORDED = "chassis.trace_recorded"
_HEADERS = ("traceparent", "x-b3-traceid", "b3", "baggage")
_EMPTY = context.Context()
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_NOT_SAMPLED = TraceFlags(TraceFlags.DEFAULT)

# The trace id that the sampler decided on. The span that starts after its decision takes it.
asked_trace_id: ContextVar[int | None] = ContextVar("asked_trace_id", default=None)


def layer(app: Flask, *, provider: TracerProvider | None) -> WSGIApplication:
    """Give every request a trace, and the requests that the sampler picks a span.

    Flask's instrumentation does most of its work for unsampled requests, too. So the sampler
    is asked first, and only the requests it picks go through the instrumentation; all others
    get ids for their logs and for the services they call.

    Args:
        app: The application, all its hooks registered.
        provider: Records the spans; None when nothing is exported.
    """
    plain = app.wsgi_app
    recorded = _instrument(app, provider) if provider is not None else plain
    sampler = provider.sampler if provider is not None else None
    names = {*_HEADERS, *propagate.get_global_textmap().fields}
    parent_headers = [f"HTTP_{name.upper().replace('-', '_')}" for name in names]

    def traced(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ.get("PATH_INFO") in EXEMPT:
            return plain(environ, start_response)
        if "HTTP_BAGGAGE" in environ and not is_personal_data_allowed():
            environ["HTTP_BAGGAGE"] = without_addresses(environ["HTTP_BAGGAGE"])
        parent = _EMPTY
        for header in parent_headers:
            if header in environ:
                parent = propagate.extract(environ, _EMPTY, wsgi_getter)
                break
        caller = trace.get_current_span(parent).get_span_context()
        trace_id = caller.trace_id if caller.is_valid else getrandbits(128) or 1
        if sampler is None:
            is_sampled = caller.trace_flags.sampled if caller.is_valid else True
        else:
            answer = sampler.should_sample(parent, trace_id, "", SpanKind.SERVER)
            is_sampled = answer.decision.is_sampled()  # type: ignore[no-untyped-call]
            if is_sampled:
                return _run_traced(recorded, environ, start_response, trace_id)
        ids = SpanContext(
            trace_id,
            getrandbits(64) or 1,
            is_remote=False,
            trace_flags=_SAMPLED if is_sampled else _NOT_SAMPLED,
            trace_state=caller.trace_state if caller.is_valid else None,
        )
        token = context.attach(trace.set_span_in_context(NonRecordingSpan(ids), parent))
        try:
            return plain(environ, start_response)
        finally:
            context.detach(token)

    return traced


def _run_traced(
    traced: WSGIApplication, environ: WSGIEnvironment, start_response: StartResponse, trace_id: int
) -> Iterable[bytes]:
    environ[RECORDED] = True
    token = asked_trace_id.set(trace_id)
    try:
        return traced(environ, start_response)
    finally:
        asked_trace_id.reset(token)


def _instrument(app: Flask, provider: TracerProvider) -> WSGIApplication:
    """Instrument the application, with hooks for recorded requests only; return its WSGI app."""
    from opentelemetry.instrumentation.flask import (  # noqa: PLC0415 - only when exported
        FlaskInstrumentor,
    )

    plain = app.wsgi_app
    FlaskInstrumentor().instrument_app(  # type: ignore[no-untyped-call]
        app,
        tracer_provider=provider,
        meter_provider=NoOpMeterProvider(),  # requests are measured by our own histogram
        response_hook=_tidy,
        enable_commenter=False,
        excluded_urls="",
    )
    traced, app.wsgi_app = app.wsgi_app, plain  # type: ignore[method-assign]
    before = app.before_request_funcs[None].pop()
    after = app.teardown_request_funcs[None].pop()
    # First in, so that the span covers all other hooks, and last out.
    app.before_request_funcs[None].insert(0, _if_recorded(before))
    app.teardown_request_funcs[None].insert(0, _ending(after))
    return traced


def _if_recorded(hook: Callable[..., Any]) -> Callable[[], None]:
    def begin() -> None:
        if RECORDED in request.environ:
            hook()

    return begin


def _ending(hook: Callable[..., Any]) -> Callable[[BaseException | None], None]:
    def end(error: BaseException | None) -> None:
        if RECORDED not in request.environ:
            return
        if error is not None:
            # Recorded here: the instrumentation would quote the error's text and the data in it.
            record_failure(trace.get_current_span(), error)
        hook(None)

    return end


def _tidy(span: Span, _status: str, _headers: Any) -> None:
    """Remove callers' data from a span: values of the query, and paths without a route."""
    if request.query_string:
        names = "&".join(f"{name}=REDACTED" for name in sorted(request.args) if "@" not in name)
        span.set_attribute("url.query", names[:1024])
    if request.url_rule is None:
        method = request.method if request.method in KNOWN_METHODS else "HTTP"
        span.update_name(method)
    if request.url_rule is None or not _is_ours(request.view_args):
        span.set_attribute("url.path", "")
    if "@" in request.headers.get("User-Agent", "") and not is_personal_data_allowed():
        span.set_attribute("user_agent.original", "REDACTED")


def _is_ours(arguments: Mapping[str, Any] | None) -> bool:
    """Tell whether the variable parts of a path are ids only, which this service gave out."""
    return all(isinstance(each, UUID) for each in (arguments or {}).values())


KNOWN_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})
