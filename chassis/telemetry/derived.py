"""Metrics that are read off stored ones: requests are counted once and told under more names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto


class Reading(Enum):
    """How a derived metric is read off the stored one."""

    COUNT = auto()
    """A counter: how many observations a histogram has."""
    HISTOGRAM = auto()
    """The same histogram."""
    LEVEL = auto()
    """The same number, which goes up and down."""


@dataclass(frozen=True, slots=True)
class Derived:
    """A metric under a further name.

    Attributes:
        name: As OTLP has it.
        exposed_name: As Prometheus' text format has it.
        unit: As OTLP has it.
        labels: Stored label -> label, as OTLP has it; empty when they stay as they are.
    """

    name: str
    exposed_name: str
    documentation: str
    unit: str
    reading: Reading
    labels: Mapping[str, str] = field(default_factory=dict)


# Of requests, as the semantic conventions name them.
_CONVENTIONAL = {
    "method": "http.request.method",
    "status_code": "http.response.status_code",
    "endpoint": "http.route",
}

# Stored metric -> metrics that are read off it.
DERIVED: Mapping[str, tuple[Derived, ...]] = {
    "http_request_duration_seconds": (
        Derived("http_requests_total", "http_requests_total", "HTTP requests.", "1", Reading.COUNT),
        Derived(
            "http.server.request.duration",
            "http_server_request_duration_seconds",
            "Duration of HTTP server requests.",
            "s",
            Reading.HISTOGRAM,
            _CONVENTIONAL,
        ),
    ),
    "active_connections": (
        Derived(
            "http.server.active_requests",
            "http_server_active_requests",
            "HTTP requests being worked on.",
            "{request}",
            Reading.LEVEL,
        ),
    ),
}


def relabeled(
    derived: Derived, labels: Mapping[str, str], routes: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """Yield the labels of a derived series, as OTLP names them.

    Args:
        derived: The metric.
        labels: Labels of the stored series.
        routes: Endpoint -> route; a route that is not known is empty.
    """
    for name, value in labels.items():
        if name not in derived.labels:
            yield name, value
        else:
            yield derived.labels[name], routes.get(value, "") if name == "endpoint" else value
