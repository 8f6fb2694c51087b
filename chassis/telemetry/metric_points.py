"""This process's counts as points of OTLP, read from where prometheus_client keeps them."""

from __future__ import annotations

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
    NumberDataPoint,
    Sum,
)
from prometheus_client import REGISTRY
from prometheus_client.core import Metric as Family
from prometheus_client.core import Sample

from chassis.telemetry.derived import DERIVED, REPLACED, Derived, Reading, relabeled
from chassis.telemetry.units import unit_of

CUMULATIVE = AggregationTemporality.CUMULATIVE
UNKNOWN = cast("float", None)  # leaves an optional field of the protocol out


def collect(routes: Mapping[str, str], start: int, now: int) -> Iterator[Metric]:
    """Yield this process's metrics, and those that are derived from them.

    Args:
        routes: Endpoint -> route.
        start: Time since when is counted, in nanoseconds of the epoch.
        now: Time of the points.
    """
    for family in REGISTRY.collect():
        stored = _stored(family, start, now)
        if stored is None or not stored.data.data_points:
            continue
        if family.name not in REPLACED:
            yield stored
        for derived in DERIVED.get(family.name, ()):
            data = _derive(derived, list(stored.data.data_points), routes)
            yield Metric(derived.name, derived.documentation, derived.unit, data)


def _stored(family: Family, start: int, now: int) -> Metric | None:
    """Return a metric as it is stored; None for a kind that is not pushed."""
    name = f"{family.name}_total" if family.type == "counter" else family.name
    data: Any
    if family.type == "histogram":
        data = Histogram(list(_histogram_points(family.samples, start, now)), CUMULATIVE)
    elif family.type == "counter":
        data = Sum(_number_points(family.samples, start, now), CUMULATIVE, True)  # noqa: FBT003
    elif family.type == "gauge":
        data = Gauge(_number_points(family.samples, start, now))
    else:
        return None
    return Metric(name, family.documentation, unit_of(name), data)


def _derive(
    derived: Derived, points: list[Any], routes: Mapping[str, str]
) -> Histogram | Sum | Gauge:
    if derived.reading is Reading.COUNT:
        counts = [
            NumberDataPoint(
                each.attributes, each.start_time_unix_nano, each.time_unix_nano, each.count
            )
            for each in points
        ]
        return Sum(counts, CUMULATIVE, True)  # noqa: FBT003
    if derived.reading is Reading.SUM:
        return Gauge([_add_up(points)])
    same = [
        replace(each, attributes=_attributes(derived, each.attributes, routes)) for each in points
    ]
    if derived.reading is Reading.LEVEL:
        return Sum(same, CUMULATIVE, False)  # noqa: FBT003
    return Histogram(same, CUMULATIVE)


def _add_up(points: list[NumberDataPoint]) -> NumberDataPoint:
    value = sum(each.value for each in points)
    return replace(points[0], attributes={}, value=value)


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
