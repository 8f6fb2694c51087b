"""Metrics over OTLP: a thread sends the counts of this process at intervals.

Requests are counted once, in prometheus_client, and the push reads these counts. A second set
of instruments would cost every request more than the rest of its telemetry.
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

from chassis.telemetry.derived import DERIVED, Derived, Reading, relabeled

# A name below "opentelemetry", so that the log filter lets only one line a minute through.
logger = logging.getLogger("opentelemetry.metric_push")

CUMULATIVE = AggregationTemporality.CUMULATIVE
UNKNOWN = cast("float", None)  # leaves an optional field of the protocol out


class MetricPush:
    """Sends this process's metrics from a thread of its own, and once more when it is closed.

    Args:
        exporter: Sends the metrics.
        resource: The service and process that send.
        routes: Endpoint -> route; may be filled later.
        interval_seconds: Time between two pushes.
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
        """Start the thread that sends."""
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
            except Exception:  # the next push may succeed
                logger.exception("Metrics were not exported")

    def _snapshot(self) -> MetricsData:
        metrics = list(_metrics(self._routes, self._started_at, time.time_ns()))
        scope = ScopeMetrics(InstrumentationScope("chassis"), metrics, "")
        return MetricsData([ResourceMetrics(self._resource, [scope], "")])


def _metrics(routes: Mapping[str, str], start: int, now: int) -> Iterator[Metric]:
    """Yield this process's metrics, and those that are derived from them."""
    for family in REGISTRY.collect():
        points: list[Any]
        if family.type == "histogram":
            points = list(_histogram_points(family.samples, start, now))
            yield Metric(family.name, family.documentation, "s", Histogram(points, CUMULATIVE))
        elif family.type == "counter":
            name = f"{family.name}_total"
            points = _number_points(family.samples, start, now)
            yield Metric(name, family.documentation, "1", Sum(points, CUMULATIVE, True))  # noqa: FBT003
        elif family.type == "gauge":
            points = _number_points(family.samples, start, now)
            yield Metric(family.name, family.documentation, "1", Gauge(points))
        else:
            continue
        for derived in DERIVED.get(family.name, ()):
            data = _derive(derived, points, routes)
            yield Metric(derived.name, derived.documentation, derived.unit, data)


def _derive(derived: Derived, points: list[Any], routes: Mapping[str, str]) -> Histogram | Sum:
    if derived.reading is Reading.COUNT:
        counts = [
            NumberDataPoint(
                each.attributes, each.start_time_unix_nano, each.time_unix_nano, each.count
            )
            for each in points
        ]
        return Sum(counts, CUMULATIVE, True)  # noqa: FBT003
    if derived.reading is Reading.LEVEL:
        return Sum(points, CUMULATIVE, False)  # noqa: FBT003
    same = [
        replace(each, attributes=_attributes(derived, each.attributes, routes)) for each in points
    ]
    return Histogram(same, CUMULATIVE)


def _attributes(
    derived: Derived, stored: Mapping[str, str], routes: Mapping[str, str]
) -> dict[str, str | int]:
    """Return the attributes of a derived series: the status as a number, no unknown route."""
    return {
        name: int(value) if name == "http.response.status_code" else value
        for name, value in relabeled(derived, stored, routes)
        if value
    }


def _number_points(samples: Iterable[Sample], start: int, now: int) -> list[NumberDataPoint]:
    return [NumberDataPoint(dict(each.labels), start, now, each.value) for each in samples]


def _histogram_points(samples: list[Sample], start: int, now: int) -> Iterator[HistogramDataPoint]:
    """Join the samples of each label set; unlike Prometheus' buckets, OTLP's are not cumulative."""

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
