"""Decisions about which traces are recorded; loads the SDK."""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import Attributes

from chassis.telemetry.propagation import asked_to_record


class AskedSampler(Sampler):
    """Does as a caller asked who left the trace's ids to us; else another sampler decides."""

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler

    def should_sample(  # noqa: PLR0913, PLR0917 - the interface's
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """Decide about a span that is about to start."""
        asked = asked_to_record(parent_context) if parent_context is not None else None
        decider = {None: self._sampler, True: ALWAYS_ON, False: ALWAYS_OFF}[asked]
        return decider.should_sample(
            parent_context, trace_id, name, kind, attributes, links, trace_state
        )

    def get_description(self) -> str:
        """Name the sampler that decides elsewhere."""
        return f"AskedSampler{{{self._sampler.get_description()}}}"
