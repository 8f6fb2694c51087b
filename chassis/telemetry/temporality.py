"""Counts since the start, or since the last push that arrived; loads the SDK."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum
from typing import Any, TypeAlias

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Histogram,
    HistogramDataPoint,
    Metric,
    Sum,
)

DELTA = AggregationTemporality.DELTA
# Read from the system, and not counted by this process; with `lowmemory` they stay totals.
OBSERVED = ("process_", "python_")

Key: TypeAlias = tuple[str, frozenset[tuple[str, Any]]]


class Temporality(StrEnum):
    """The values of OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE."""

    CUMULATIVE = "cumulative"
    DELTA = "delta"
    LOWMEMORY = "lowmemory"


class Changes:
    """Turns counts since the start into those since the last push.

    Not for several threads at a time.
    """

    def __init__(self, temporality: Temporality) -> None:
        self._temporality = temporality
        self._before: Mapping[Key, Any] = {}
        self._now: dict[Key, Any] = {}

    def apply(self, metric: Metric) -> Metric:
        """Return a metric as it is pushed: counters and histograms as asked for, gauges as is."""
        if not self._is_delta(metric):
            return metric
        data: Any = metric.data
        points = [self._since_last(metric.name, point) for point in data.data_points]
        data = replace(data, data_points=points, aggregation_temporality=DELTA)
        return replace(metric, data=data)

    def settle(self) -> None:
        """Note that the push has arrived; what did not arrive is part of the next one."""
        self._before, self._now = self._now, {}

    def _is_delta(self, metric: Metric) -> bool:
        if self._temporality is Temporality.CUMULATIVE:
            return False
        if self._temporality is Temporality.LOWMEMORY and metric.name.startswith(OBSERVED):
            return False
        is_counter = isinstance(metric.data, Sum) and metric.data.is_monotonic
        return is_counter or isinstance(metric.data, Histogram)

    def _since_last(self, name: str, point: Any) -> Any:
        key = name, frozenset(point.attributes.items())
        self._now[key] = point
        before = self._before.get(key)
        return point if before is None else _difference(point, before)


def _difference(point: Any, before: Any) -> Any:
    start = before.time_unix_nano
    if not isinstance(point, HistogramDataPoint):
        return replace(point, start_time_unix_nano=start, value=point.value - before.value)
    buckets = zip(point.bucket_counts, before.bucket_counts, strict=True)
    return replace(
        point,
        start_time_unix_nano=start,
        count=point.count - before.count,
        sum=point.sum - before.sum,
        bucket_counts=[now - then for now, then in buckets],
    )
