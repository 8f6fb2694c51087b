"""Metrics derived from stored ones: requests are counted once and reported under more names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto


class Reading(Enum):
    """How a derived metric follows from the stored one."""

    COUNT = auto()
    """A counter: the number of observations of the stored histogram."""
    HISTOGRAM = auto()
    """The stored histogram itself."""
    LEVEL = auto()
    """The stored gauge itself, which goes up and down."""
    SUM = auto()
    """A gauge without labels: the sum of the stored one."""


@dataclass(frozen=True, slots=True)
class Derived:
    """A stored metric under another name.

    Attributes:
        name: Name in OTLP.
        exposed_name: Name in Prometheus' text format.
        unit: Unit in OTLP.
        labels: Stored label -> label in OTLP; empty when the labels stay as they are.
    """

    name: str
    exposed_name: str
    documentation: str
    unit: str
    reading: Reading
    labels: Mapping[str, str] = field(default_factory=dict)


# Proxies speak TLS with clients; the service itself does not.
SCHEME = "http"
# Only those that are derived from these are pushed: the names would be the same for a collector.
REPLACED = frozenset({"http_server_active_requests"})

# Labels of requests -> attributes of the semantic conventions.
_CONVENTIONAL = {
    "method": "http.request.method",
    "status_code": "http.response.status_code",
    "endpoint": "http.route",
}

# Stored metric -> metrics that are derived from it.
DERIVED: Mapping[str, tuple[Derived, ...]] = {
    "http_request_duration_seconds": (
        Derived(
            "http_requests_total",
            "http_requests_total",
            "HTTP requests.",
            "{request}",
            Reading.COUNT,
        ),
        Derived(
            "http.server.request.duration",
            "http_server_request_duration_seconds",
            "Duration of HTTP server requests.",
            "s",
            Reading.HISTOGRAM,
            _CONVENTIONAL,
        ),
    ),
    "http_server_active_requests": (
        Derived(
            "active_connections",
            "active_connections",
            "HTTP requests being worked on.",
            "{request}",
            Reading.SUM,
        ),
        Derived(
            "http.server.active_requests",
            "http_server_active_requests",
            "HTTP requests being worked on, by their method.",
            "{request}",
            Reading.LEVEL,
            {"http_request_method": "http.request.method", "url_scheme": "url.scheme"},
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
        routes: Endpoint -> route; the label of an unknown endpoint is empty.
    """
    for name, value in labels.items():
        if name not in derived.labels:
            yield name, value
        else:
            yield derived.labels[name], routes.get(value, "") if name == "endpoint" else value
    if derived.labels is _CONVENTIONAL:
        yield "url.scheme", SCHEME
        if labels["status_code"] >= "500":
            yield "error.type", labels["status_code"]
