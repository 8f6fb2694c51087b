"""Telemetry as the package sees it: through the OpenTelemetry API only."""

from __future__ import annotations

from opentelemetry import trace


def trace_id() -> str:
    """Return the current trace's id in hexadecimal, zeros outside a span."""
    return trace.format_trace_id(trace.get_current_span().get_span_context().trace_id)
