"""The request's own telemetry, and /metrics where a scrape reads all workers' counts."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from flask import Blueprint, Flask, Request, Response, current_app
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.multiprocess import MultiProcessCollector

from chassis.actor import CALLER, actor
from chassis.http.admission import EXEMPT
from chassis.http.auth import public
from chassis.http.headers import id_of
from chassis.telemetry import instruments
from chassis.telemetry.derived import DERIVED, Derived, Reading, relabeled
from chassis.telemetry.log_event import LogEvent
from chassis.telemetry.log_fields import log_fields
from chassis.telemetry.process_metrics import collect_processes

if TYPE_CHECKING:
    from pathlib import Path

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_answered = LogEvent(logging.getLogger("access"), "Request answered")
blueprint = Blueprint("metrics", __name__)

KINDS = {
    Reading.COUNT: "counter",
    Reading.HISTOGRAM: "histogram",
    Reading.LEVEL: "gauge",
    Reading.SUM: "gauge",
}


def layer(app: Flask) -> WSGIApplication:
    """Measure and log each request, probes and scrapes excepted."""
    answer = app.wsgi_app
    instruments.prepare_requests()

    def measured(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] in EXEMPT:
            return answer(environ, start_response)
        started_at = time.perf_counter()
        active = instruments.active_requests(environ["REQUEST_METHOD"])

        def begin(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            # Before the answer leaves, so that a client with an answer finds it counted, and
            # within the request's span, so that the log line belongs to it.
            _measure(environ, int(status[:3]), time.perf_counter() - started_at)
            return start_response(status, headers, *more)

        token = log_fields.set({"request_id": id_of(environ)})
        acting = actor.set(CALLER)
        active.inc()
        try:
            return answer(environ, begin)
        finally:
            active.dec()
            actor.reset(acting)
            log_fields.reset(token)

    return measured


def _measure(environ: WSGIEnvironment, status: int, seconds: float) -> None:
    request: Request | None = environ.get("werkzeug.request")
    rule = request.url_rule if request is not None else None
    endpoint = rule.endpoint if rule is not None else "unknown"
    route = rule.rule if rule is not None else ""
    _count(environ["REQUEST_METHOD"], status, endpoint, route, seconds)


def count_refusal(method: str, status: int, seconds: float) -> None:
    """Measure and log an answer to bytes that never became a request."""
    _count(method, int(status), "unknown", "", seconds)


def _count(method: str, status: int, endpoint: str, route: str, seconds: float) -> None:
    instruments.request_duration(method, status, endpoint).observe(seconds)
    duration_ms = round(seconds * 1000, 3)
    _answered.info(method=method, route=route, status=status, duration_ms=duration_ms)


@blueprint.get("/metrics")
@public
def get_metrics() -> Response:
    """Return the counts of all workers of this pod, in Prometheus' text format."""
    exposition = generate_latest(_Exposition(current_app))
    return Response(exposition, content_type=CONTENT_TYPE_LATEST)


class _Exposition(CollectorRegistry):
    """The stored metrics, and those that are derived from them: one histogram serves three."""

    def __init__(self, app: Flask) -> None:
        super().__init__()
        self._routes = {rule.endpoint: rule.rule for rule in app.url_map.iter_rules()}

    def collect(self) -> Iterator[Metric]:
        """Yield the stored metrics, each followed by those derived from it."""
        for metric in stored_metrics():
            yield metric
            for derived in DERIVED.get(metric.name, ()):
                if derived.exposed_name != metric.name:
                    yield self._derive(metric, derived)

    def _derive(self, metric: Metric, derived: Derived) -> Metric:
        name = derived.exposed_name
        # A family of counters is named without the suffix of its samples.
        family = Metric(name.removesuffix("_total"), derived.documentation, KINDS[derived.reading])
        if derived.reading is Reading.SUM:
            family.add_sample(name, {}, sum(sample.value for sample in metric.samples))
            return family
        for sample in metric.samples:
            end = sample.name.removeprefix(metric.name)
            if derived.reading is Reading.COUNT:
                if end != "_count":
                    continue
                end = ""
            labels = relabeled(derived, sample.labels, self._routes)
            exposed = {label.replace(".", "_"): value for label, value in labels}
            family.add_sample(f"{name}{end}", exposed, sample.value)
        return family


def stored_metrics() -> Iterator[Metric]:
    """Yield the counts of all workers of the pod, or of this process when it is alone."""
    directory = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if directory:
        files = [str(path) for path in instruments.files_in(directory) if _size(path)]
        yield from MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]
        yield from collect_processes(os.getppid())  # of gunicorn's master, and of its workers
    else:
        yield from REGISTRY.collect()


def _size(path: Path) -> int:
    # A worker that starts makes its files empty, so a reader may find empty files; the files of
    # a dead worker may vanish during the reading.
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
