"""Ids for spans. Apart from the rest, so that only processes that export load the SDK."""

from __future__ import annotations

from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

from chassis.http.request_tracing import asked_trace_id


class AskedIdGenerator(RandomIdGenerator):
    """Gives a request's span the id that was sampled."""

    def generate_trace_id(self) -> int:
        """Return the id that was asked about, or a new one."""
        return asked_trace_id.get() or super().generate_trace_id()
