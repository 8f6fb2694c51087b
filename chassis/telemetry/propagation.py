"""Trace context across services: W3C and B3 headers are read, W3C headers are written."""

from __future__ import annotations

from urllib.parse import unquote

from opentelemetry import propagate
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.propagators.b3 import B3MultiFormat
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import (
    CarrierT,
    Getter,
    Setter,
    TextMapPropagator,
    default_getter,
    default_setter,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

_W3C = (TraceContextTextMapPropagator(), W3CBaggagePropagator())


class Propagator(TextMapPropagator):
    """Reads W3C and B3 headers, and writes W3C headers. With both present, W3C counts."""

    def __init__(self) -> None:
        self._read = CompositePropagator([B3MultiFormat(), *_W3C])
        self._write = CompositePropagator([*_W3C])

    def extract(
        self,
        carrier: CarrierT,
        context: Context | None = None,
        getter: Getter[CarrierT] = default_getter,
    ) -> Context:
        """Return the context that the carrier's headers describe."""
        return self._read.extract(carrier, context, getter)

    def inject(
        self,
        carrier: CarrierT,
        context: Context | None = None,
        setter: Setter[CarrierT] = default_setter,
    ) -> None:
        """Write the current context into the carrier's headers."""
        self._write.inject(carrier, context, setter)

    @property
    def fields(self) -> set[str]:
        """The names of the headers that it writes."""
        return self._write.fields


def without_addresses(header: str) -> str:
    """Return a baggage header without the members that hold an e-mail address.

    Baggage is logged, and passed on to every called service.
    """
    return ",".join(each for each in header.split(",") if "@" not in unquote(each))


def outgoing_headers() -> dict[str, str]:
    """Return the headers with which another service continues the current trace."""
    headers: dict[str, str] = {}
    propagate.inject(headers)
    return headers
