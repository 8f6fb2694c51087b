"""A trace for each request, and a span for those that the sampler picks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import getrandbits
from typing import TYPE_CHECKING

from flask import Flask
from opentelemetry import context, propagate, trace
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import Getter
from opentelemetry.trace import (
    INVALID_SPAN_CONTEXT,
    SpanContext,
    SpanKind,
    TraceFlags,
)

from chassis.http.admission import EXEMPT
from chassis.telemetry.propagation import asked_to_record, without_addresses
from chassis.telemetry.tracing import Unrecorded, is_personal_data_allowed

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.sampling import Sampler

    from chassis.http.server_span import ServerSpans

_HEADERS = ("traceparent", "x-b3-traceid", "x-b3-sampled", "x-b3-flags", "b3", "baggage")
_EMPTY = Context()
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_NOT_SAMPLED = TraceFlags(TraceFlags.DEFAULT)


def layer(app: Flask, *, provider: TracerProvider | None) -> WSGIApplication:
    """Give every request a trace, and the requests that the sampler picks a span.

    All others get ids for their logs and for the services they call.

    Args:
        app: The application.
        provider: Records the spans; None when nothing is exported.
    """
    plain = app.wsgi_app
    callers = _Callers()
    spans = _make_spans(app, provider) if provider is not None else None
    is_picked = _picks(provider.sampler) if provider is not None else _follows_caller

    def traced(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ.get("PATH_INFO") in EXEMPT:
            return plain(environ, start_response)
        parent = callers.context_of(environ)
        caller = _caller_in(parent)
        trace_id = caller.trace_id if caller.is_valid else getrandbits(128) or 1
        is_sampled = is_picked(parent, trace_id, caller)
        if is_sampled and spans is not None:
            return spans.serve(plain, environ, start_response, parent=parent, trace_id=trace_id)
        ids = _make_ids(trace_id, caller, is_sampled=is_sampled)
        token = context.attach(trace.set_span_in_context(ids, parent))
        try:
            return plain(environ, start_response)
        finally:
            context.detach(token)

    return traced


def _caller_in(parent: Context) -> SpanContext:
    if parent is _EMPTY:
        return INVALID_SPAN_CONTEXT
    return trace.get_current_span(parent).get_span_context()


def _make_ids(trace_id: int, caller: SpanContext, *, is_sampled: bool) -> Unrecorded:
    ids = SpanContext(
        trace_id,
        getrandbits(64) or 1,
        is_remote=False,
        trace_flags=_SAMPLED if is_sampled else _NOT_SAMPLED,
        trace_state=caller.trace_state if caller.is_valid else None,
    )
    return Unrecorded(ids)


def _make_spans(app: Flask, provider: TracerProvider) -> ServerSpans:
    from chassis.http.server_span import ServerSpans  # noqa: PLC0415 - loads the SDK

    return ServerSpans(app, provider)


def _picks(sampler: Sampler) -> Callable[[Context, int, SpanContext], bool]:
    def is_picked(parent: Context, trace_id: int, _caller: SpanContext) -> bool:
        answer = sampler.should_sample(parent, trace_id, "", SpanKind.SERVER)
        is_sampled: bool = answer.decision.is_sampled()  # type: ignore[no-untyped-call]
        return is_sampled

    return is_picked


def _follows_caller(parent: Context, _trace_id: int, caller: SpanContext) -> bool:
    """Leave the decision to the caller; where there is none, ask the services we call to record."""
    return caller.trace_flags.sampled if caller.is_valid else asked_to_record(parent) is not False


class _Callers:
    """Reads callers' trace headers; a request without any costs next to nothing."""

    def __init__(self) -> None:
        names = {*_HEADERS, *propagate.get_global_textmap().fields}
        self._keys = [_key(name) for name in names]

    def context_of(self, environ: WSGIEnvironment) -> Context:
        """Return the caller's context, addresses left out of its baggage."""
        for key in self._keys:
            if key in environ:
                if "HTTP_BAGGAGE" in environ and not is_personal_data_allowed():
                    environ["HTTP_BAGGAGE"] = without_addresses(environ["HTTP_BAGGAGE"])
                return propagate.extract(environ, _EMPTY, _HEADER_GETTER)
        return _EMPTY


class _HeaderGetter(Getter["WSGIEnvironment"]):
    """Reads headers for propagators.

    The instrumentation for WSGI has such a reader, but importing it takes 20 ms of each start.
    """

    def get(self, carrier: WSGIEnvironment, key: str) -> list[str] | None:
        """Return a header's value; WSGI has joined those that came more than once."""
        value = carrier.get(_key(key))
        return None if value is None else [value]

    def keys(self, carrier: WSGIEnvironment) -> list[str]:
        """Return the names of all headers."""
        names = (key for key in carrier if key.startswith("HTTP_"))
        return [name.removeprefix("HTTP_").lower().replace("_", "-") for name in names]


def _key(header: str) -> str:
    return f"HTTP_{header.upper().replace('-', '_')}"


_HEADER_GETTER = _HeaderGetter()
