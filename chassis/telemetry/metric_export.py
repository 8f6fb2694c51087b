"""Metrics by OTLP: what this process counted, as it stands, every now and then.

Requests record once, into prometheus_client; the push reads the same counts. A second set of
instruments would cost every request more than the rest of its telemetry.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import groupby, pairwise
from typing import Any, cast

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricExporter,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client import REGISTRY
from prometheus_client.core import Sample

# Beneath the name that the log filter keeps quiet: one line a minute, whoever complains.
logger = logging.getLogger("opentelemetry.metric_push")

CUMULATIVE = AggregationTemporality.CUMULATIVE
HTTP_DURATION = "http_request_duration_seconds"
ACTIVE_REQUESTS = "active_connections"
UNKNOWN = cast("float", None)  # leaves an optional field of the protocol out


class MetricPush:
    """Sends this process's metrics from a thread of its own, and once more when it is closed.

    Args:
        exporter: Where to.
        resource: Who sends.
        routes: Endpoint -> route; may be filled later.
        interval_seconds: How often.
    """

    def __init__(
        self,
        exporter: MetricExporter,
        resource: Resource,
        *,
        routes: Mapping[str, str],
        interval_seconds: float,
    ) -> None:
        self._exporter = exporter
        self._routes = routes
        self._resource = resource
        self._interval_seconds = interval_seconds
        self._started_at = time.time_ns()
        self._closed = threading.Event()
        self._sending = threading.Lock()

    def start(self) -> None:
        """Begin to send."""
        threading.Thread(target=self._run, name="metric-push", daemon=True).start()

    def close(self) -> None:
        """Send the last counts and stop."""
        self._closed.set()
        self._send()
        self._exporter.shutdown()

    def _run(self) -> None:
        while not self._closed.wait(self._interval_seconds):
            self._send()

    def _send(self) -> None:
        with self._sending:
            try:
                self._exporter.export(self._snapshot())
            except Exception:  # the next one may arrive
                logger.exception("Metrics were not exported")

    def _snapshot(self) -> MetricsData:
        metrics = list(_metrics(self._routes, self._started_at, time.time_ns()))
        scope = ScopeMetrics(InstrumentationScope("chassis"), metrics, "")
        return MetricsData([ResourceMetrics(self._resource, [scope], "")])


def _metrics(routes: Mapping[str, str], start: int, now: int) -> Iterator[Metric]:
    """Yield this process's metrics under their own names, and requests under OpenTelemetry's."""
    for family in REGISTRY.collect():
        if family.type == "histogram":
            points = list(_histogram_points(family.samples, start, now))
            yield Metric(family.name, family.documentation, "s", Histogram(points, CUMULATIVE))
            if family.name == HTTP_DURATION:
                yield from _http_metrics(points, routes, start, now)
        elif family.type == "counter":
            name = f"{family.name}_total"
            points_of_sum = _number_points(family.samples, start, now)
            yield Metric(name, family.documentation, "1", Sum(points_of_sum, CUMULATIVE, True))  # noqa: FBT003
        elif family.type == "gauge":
            values = _number_points(family.samples, start, now)
            yield Metric(family.name, family.documentation, "1", Gauge(values))
            if family.name == ACTIVE_REQUESTS:
                active = Sum(values, CUMULATIVE, False)  # noqa: FBT003
                yield Metric(
                    "http.server.active_requests", family.documentation, "{request}", active
                )


def _http_metrics(
    points: list[HistogramDataPoint], routes: Mapping[str, str], start: int, now: int
) -> Iterator[Metric]:
    totals = [NumberDataPoint(each.attributes, start, now, each.count) for each in points]
    yield Metric("http_requests_total", "HTTP requests.", "1", Sum(totals, CUMULATIVE, True))  # noqa: FBT003
    conventional = [
        replace(each, attributes=_conventional(each.attributes or {}, routes)) for each in points
    ]
    yield Metric(
        "http.server.request.duration",
        "Duration of HTTP server requests.",
        "s",
        Histogram(conventional, CUMULATIVE),
    )


def _conventional(attributes: Mapping[str, Any], routes: Mapping[str, str]) -> dict[str, Any]:
    route = routes.get(attributes["endpoint"])
    return {
        "http.request.method": attributes["method"],
        "http.response.status_code": int(attributes["status_code"]),
        **({"http.route": route} if route is not None else {}),
    }


def _number_points(samples: Iterable[Sample], start: int, now: int) -> list[NumberDataPoint]:
    return [NumberDataPoint(dict(each.labels), start, now, each.value) for each in samples]


def _histogram_points(samples: list[Sample], start: int, now: int) -> Iterator[HistogramDataPoint]:
    """Put the samples of each label set together; OTLP's buckets do not include one another."""

    def labels(sample: Sample) -> list[tuple[str, str]]:
        return sorted((name, value) for name, value in sample.labels.items() if name != "le")

    for key, group in groupby(sorted(samples, key=labels), key=labels):
        parts = list(group)
        buckets = sorted((float(x.labels["le"]), int(x.value)) for x in parts if "le" in x.labels)
        reached = [count for _, count in buckets]
        yield HistogramDataPoint(
            attributes=dict(key),
            start_time_unix_nano=start,
            time_unix_nano=now,
            count=reached[-1],
            sum=next(each.value for each in parts if each.name.endswith("_sum")),
            bucket_counts=[upper - lower for lower, upper in pairwise([0, *reached])],
            explicit_bounds=[bound for bound, _ in buckets[:-1]],
            min=UNKNOWN,
            max=UNKNOWN,
        )
