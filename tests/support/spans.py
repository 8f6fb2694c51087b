"""An SDK in the test process, whose spans stay in memory."""

from __future__ import annotations

from contextlib import contextmanager
from functools import cache

from opentelemetry import context, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from chassis.http.server_span import AskedIdGenerator
from chassis.telemetry.sampling import AskedSampler


@cache
def memory():
    """Return where the spans of this process go; a process can choose that only once."""
    exporter = InMemorySpanExporter()
    trace.set_tracer_provider(provider(exporter))
    return exporter


def provider(exporter, sampler=None):
    """Make a provider like the service's, with an exporter that does not wait."""
    made = TracerProvider(sampler=sampler, id_generator=AskedIdGenerator(), shutdown_on_exit=False)
    made.sampler = AskedSampler(made.sampler)
    made.add_span_processor(SimpleSpanProcessor(exporter))
    return made


@contextmanager
def in_trace(*, sampled, is_remote=False):
    """Work in a trace that somebody else records, or does not: here, or in another process."""
    flags = TraceFlags(TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT)
    caller = SpanContext(0xA, 0xB, is_remote=is_remote, trace_flags=flags)
    token = context.attach(trace.set_span_in_context(NonRecordingSpan(caller)))
    try:
        yield caller
    finally:
        context.detach(token)


def current_name():
    """Return the current span's name, an empty one outside of all spans."""
    return getattr(trace.get_current_span(), "name", "")
