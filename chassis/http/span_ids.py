"""Ids for spans, in a module of their own, so that only processes that export load the SDK."""

from __future__ import annotations

from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

from chassis.http.request_tracing import asked_trace_id


class AskedIdGenerator(RandomIdGenerator):
    """Gives a request's span the trace id that the sampler decided on."""

    def generate_trace_id(self) -> int:
        """Return the id that the sampler decided on, or a new one."""
        return asked_trace_id.get() or super().generate_trace_id()
