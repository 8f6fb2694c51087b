"""Metrics over OTLP: a thread sends the counts of this process at intervals.

Requests are counted once, in prometheus_client, and the push reads these counts. A second set
of instruments would cost every request more than the rest of its telemetry.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping

from opentelemetry.sdk.metrics.export import (
    MetricExporter,
    MetricExportResult,
    MetricsData,
    ResourceMetrics,
    ScopeMetrics,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from chassis.telemetry.metric_points import collect
from chassis.telemetry.temporality import Changes, Temporality

# A name below "opentelemetry", so that the log filter lets only one line a minute through.
logger = logging.getLogger("opentelemetry.metric_push")


class MetricPush:
    """Sends this process's metrics from a thread of its own, and once more when it is closed.

    Args:
        exporter: Sends the metrics.
        resource: The service and process that send.
        routes: Endpoint -> route; may be filled later.
        interval_seconds: Time between two pushes.
        temporality: Whether counts are those since the start, or since the last push.
    """

    def __init__(
        self,
        exporter: MetricExporter,
        resource: Resource,
        *,
        routes: Mapping[str, str],
        interval_seconds: float,
        temporality: Temporality = Temporality.CUMULATIVE,
    ) -> None:
        self._exporter = exporter
        self._routes = routes
        self._resource = resource
        self._interval_seconds = interval_seconds
        self._started_at = time.time_ns()
        self._changes = Changes(temporality)
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
                result = self._exporter.export(self._snapshot())
            except Exception:  # the next push may succeed
                logger.exception("Metrics were not exported")
            else:
                if result is MetricExportResult.SUCCESS:
                    self._changes.settle()

    def _snapshot(self) -> MetricsData:
        since_start = collect(self._routes, self._started_at, time.time_ns())
        metrics = [self._changes.apply(metric) for metric in since_start]
        scope = ScopeMetrics(InstrumentationScope("chassis"), metrics, "")
        return MetricsData([ResourceMetrics(self._resource, [scope], "")])
