"""Trace context across services: W3C and B3 headers are read, W3C headers are written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from urllib.parse import unquote

from opentelemetry import context as contexts
from opentelemetry import propagate, trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.propagators.b3 import B3MultiFormat, B3SingleFormat
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

_DEFAULT_READ = ("b3multi", "tracecontext", "baggage")
_DEFAULT_WRITTEN = ("tracecontext", "baggage")
_PROPAGATORS: Mapping[str, Callable[[], TextMapPropagator]] = {
    "tracecontext": TraceContextTextMapPropagator,
    "baggage": W3CBaggagePropagator,
    "b3": B3SingleFormat,
    "b3multi": B3MultiFormat,
}
_ASKED = contexts.create_key("asked-to-record")


class Propagator(TextMapPropagator):
    """Reads and writes the headers of several families; the last one that is read counts.

    Args:
        read: Names of the families that are read.
        written: Names of those that are written.
    """

    def __init__(
        self, read: Sequence[str] = _DEFAULT_READ, written: Sequence[str] = _DEFAULT_WRITTEN
    ) -> None:
        self._read = CompositePropagator([_PROPAGATORS[name]() for name in read])
        self._write = CompositePropagator([_PROPAGATORS[name]() for name in written])
        self._has_b3 = not {"b3", "b3multi"}.isdisjoint(read)

    def extract(
        self,
        carrier: CarrierT,
        context: Context | None = None,
        getter: Getter[CarrierT] = default_getter,
    ) -> Context:
        """Return the context that the carrier's headers describe."""
        # Without a family to read, the library returns None, which is no context.
        found = self._read.extract(carrier, context or Context(), getter)
        if not self._has_b3 or trace.get_current_span(found).get_span_context().is_valid:
            return found
        asked = _read_decision(carrier, getter)
        return found if asked is None else contexts.set_value(_ASKED, asked, found)

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


def install(names: str) -> None:
    """Let this process read and write the headers that OTEL_PROPAGATORS names.

    Args:
        names: A list, `none`, or an empty text: W3C and B3 are read, W3C is written and wins.
    """
    chosen = [] if names == "none" else names.split(",")
    propagate.set_global_textmap(Propagator(chosen, chosen) if names else Propagator())


def asked_to_record(context: Context) -> bool | None:
    """Return the decision of a caller that left the ids of the trace to us; None: it has none."""
    asked = contexts.get_value(_ASKED, context)
    return asked if isinstance(asked, bool) else None


def _read_decision(carrier: CarrierT, getter: Getter[CarrierT]) -> bool | None:
    """Read B3 headers without ids, which say only whether to record."""

    def read(name: str) -> str:
        return next(iter(getter.get(carrier, name) or ()), "").strip().lower()

    if read("x-b3-flags") == "1":  # debug
        return True
    decision = read("b3") or read("x-b3-sampled")
    return {"0": False, "false": False, "1": True, "true": True, "d": True}.get(decision)


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
