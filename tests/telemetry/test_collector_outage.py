from __future__ import annotations

import logging
import threading
import time
from functools import partial
from types import SimpleNamespace
from typing import Any

import httpx2
import psutil
import pytest
from opentelemetry.sdk.metrics.export import MetricExportResult
from opentelemetry.sdk.resources import Resource

from chassis.process.stop import CLOSE_SECONDS, FLUSH_SECONDS
from chassis.telemetry import instruments
from chassis.telemetry.logs import COMPLAINT_SECONDS, ComplaintFilter
from chassis.telemetry.metric_export import MetricPush
from chassis.telemetry.temporality import Temporality
from config import AppConfig
from observability import Telemetry
from tests.support.collector import PROTOCOLS
from tests.support.collector import collector as run_collector
from tests.support.deployment import API_KEY
from tests.support.factories import ADA
from tests.support.serving import in_parallel
from tests.support.waiting import DEADLINE_SECONDS, eventually

NOBODY = "/users/018f0000-0000-7000-8000-000000000000"
MODES = ("refuse", "hang", "error", "slow")
# The exporters give up after this; no test is that patient, so that a wait for it would be seen.
TIMEOUT = {"OTEL_EXPORTER_OTLP_TIMEOUT": "3600"}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_collector_that_fails_costs_neither_requests_nor_the_exit_anything(serve, protocol, mode):
    with run_collector(protocol, mode) as collector:
        service = serve(**(collector.variables | TIMEOUT))
        statuses = in_parallel(
            300, 4, lambda client, _: client.get(NOBODY).status_code, str(service.client.base_url)
        )
        service.stop()

    assert statuses == [401] * 300
    assert service.process.returncode == 0
    complaints = [line for line in service.lines if line["logger"].startswith("opentelemetry")]
    assert len(complaints) <= 1
    others = {line["logger"] for line in service.lines} - {"gunicorn.error", "access"}
    assert all(
        name.startswith(("opentelemetry", "chassis", "userservice", "alembic")) for name in others
    )
    assert service.errors == ""


@pytest.mark.parametrize("mode", ["drip", "flood", "moved"])
def test_a_collector_that_never_ends_costs_neither_memory_nor_the_exit_anything(serve, mode):
    with run_collector("http/protobuf", mode) as collector:
        service = serve(**(collector.variables | TIMEOUT))
        ask(str(service.client.base_url), 50)
        assert collector.wait_for(lambda: collector.requests > 1)
        before = resident_kib(service.workers[0])
        ask(str(service.client.base_url), 200)
        growth = resident_kib(service.workers[0]) - before
        stopped_after = stop(service)

    assert service.process.returncode == 0
    assert growth < 8 * 1024
    assert stopped_after < FLUSH_SECONDS + 0.4
    assert service.errors == ""


@pytest.mark.integration
@pytest.mark.parametrize("mode", ["drip", "hang"])
def test_a_collector_that_never_ends_costs_the_exit_of_a_worker_nothing(deployment, provider, mode):
    with run_collector("http/protobuf", mode) as collector:
        web, worker = deployment.both(**(collector.variables | TIMEOUT))
        import_users(web, b'{"email": "b@example.com", "name": "B"}')  # in a process of the pool
        httpx2.post(f"{web.url}/users", json=ADA)
        eventually(lambda: provider.taken and worker.logged("Import ended"))
        arrived = collector.requests
        assert collector.wait_for(lambda: collector.requests > arrived)
        status, seconds = worker.stop()

    (closing,) = worker.logged("Stopped: telemetry")
    assert status == 0
    assert closing["seconds"] < FLUSH_SECONDS + 0.4
    assert seconds < CLOSE_SECONDS
    assert worker.errors == []


@pytest.mark.parametrize("mode", ["drip", "hang"])
def test_an_export_ends_by_its_time_limit_whatever_arrives(serve, mode):
    with run_collector("http/protobuf", mode) as collector:
        service = serve(**(collector.variables | {"OTEL_EXPORTER_OTLP_TIMEOUT": "0.2"}))
        service.client.get(NOBODY)

        # The next push is made only when the one before is over.
        assert collector.wait_for(lambda: collector.requests > 6)


def test_a_collector_that_asks_for_peace_is_left_alone(serve):
    with run_collector("http/protobuf", "busy") as collector:
        service = serve(**collector.variables)
        ask(str(service.client.base_url), 20)
        assert collector.wait_for(lambda: collector.requests == 2)  # spans, and metrics

        for _ in range(5):
            ask(str(service.client.base_url), 20)
        service.stop()

    assert collector.requests == 2
    assert service.process.returncode == 0


def test_parts_that_hang_at_the_end_cost_the_time_of_one():
    telemetry, hanging = Telemetry(AppConfig()), threading.Event()
    parts = [partial(hanging.wait, DEADLINE_SECONDS)] * 60
    telemetry._closing.extend(parts)  # noqa: SLF001 - a collector has only two signals to hang on

    begin = time.monotonic()
    telemetry.close(seconds=1)
    waited = time.monotonic() - begin
    hanging.set()

    assert waited < len(parts) / 2


def test_a_part_that_fails_at_the_end_is_of_no_interest_to_anybody(capfd):
    telemetry = Telemetry(AppConfig())
    telemetry._closing.append(lambda: 1 / 0)  # noqa: SLF001 - a library's, which fails

    telemetry.close(DEADLINE_SECONDS)

    assert capfd.readouterr() == ("", "")


class FailingOnce:
    """An exporter of a library that raises, and then works."""

    def __init__(self):
        self.calls = 0

    def export(self, _metrics):
        self.calls += 1
        if self.calls == 1:
            raise ZeroDivisionError

    def shutdown(self):
        """Hold nothing."""


def test_metrics_are_sent_again_after_an_exporter_broke():
    exporter: Any = FailingOnce()
    push = MetricPush(exporter, Resource({}), routes={}, interval_seconds=0.01)

    push.start()
    eventually(lambda: exporter.calls > 1)
    push.close()


class LosingOnce:
    """An exporter whose first push does not arrive; keeps the value of one counter."""

    def __init__(self):
        self.values = []

    def export(self, metrics):
        sent = metrics.resource_metrics[0].scope_metrics[0].metrics
        (errors,) = (each for each in sent if each.name == "rate_limit_errors_total")
        self.values.append(errors.data.data_points[0].value)
        is_first = len(self.values) == 1
        return MetricExportResult.FAILURE if is_first else MetricExportResult.SUCCESS

    def shutdown(self):
        """Hold nothing."""


def test_changes_that_did_not_arrive_are_part_of_the_next_push():
    instruments.count_rate_limit_error()
    exporter: Any = LosingOnce()
    push = MetricPush(
        exporter, Resource({}), routes={}, interval_seconds=0.01, temporality=Temporality.DELTA
    )

    push.start()
    eventually(lambda: len(exporter.values) > 2)
    push.close()

    lost, arrived, later = exporter.values[:3]
    assert lost == arrived >= 1
    assert later == 0


def test_grpcs_own_complaints_do_not_reach_stderr(serve):
    with run_collector("grpc") as collector:
        secure = collector.endpoint.replace("http:", "https:")
        service = serve(**(collector.variables | {"OTEL_EXPORTER_OTLP_ENDPOINT": secure}))
        service.client.get(NOBODY)
        eventually(lambda: "opentelemetry.exporter" in service.output)  # after the first handshake
        service.stop()

    assert service.errors == ""


def test_a_collector_that_comes_back_is_sent_what_came_after(serve):
    with run_collector("http/protobuf", "error") as collector:
        service = serve(**collector.variables)
        service.client.get(NOBODY)
        assert collector.wait_for(lambda: collector.requests > 0)

        collector.mode = "ok"
        service.client.get(NOBODY)

        assert collector.wait_for(lambda: bool(collector.spans) and bool(collector.metrics))


def test_spans_that_cannot_be_sent_are_dropped_and_not_kept(serve):
    with run_collector("http/protobuf", "hang") as collector:
        service = serve(
            OTEL_BSP_MAX_QUEUE_SIZE="64",
            OTEL_BSP_MAX_EXPORT_BATCH_SIZE="32",
            **(collector.variables | TIMEOUT),
        )
        url = str(service.client.base_url)
        ask(url, 300)
        before = resident_kib(service.workers[0])

        ask(url, 1500)

        growth = resident_kib(service.workers[0]) - before
        collector.mode = "ok"
        collector.release()
        service.stop()

    assert growth < 8 * 1024
    assert len(collector.spans) <= 64 + 2 * 32


def import_users(web, lines):
    headers = {"X-API-Key": API_KEY, "Content-Type": "application/x-ndjson"}
    assert httpx2.post(f"{web.url}/users/import", content=lines, headers=headers).is_success


def ask(url, calls):
    in_parallel(calls, 4, lambda client, _: client.get(NOBODY).status_code, url)


def stop(service):
    """Stop a service; return the seconds that closing its telemetry took."""
    service.stop()
    (line,) = [each for each in service.lines if "Stopped: telemetry" in each["message"]]
    return float(line["message"].split()[-2])


def resident_kib(pid):
    return psutil.Process(pid).memory_info().rss // 1024


@pytest.fixture
def clock(monkeypatch):
    """The monotonic clock as the log filter sees it: set it."""
    now = [1000.0]
    monkeypatch.setattr("chassis.telemetry.logs.time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def record(name):
    return logging.makeLogRecord({"name": name})


@pytest.mark.parametrize(
    "library",
    ["opentelemetry.exporter.otlp.proto.http.trace_exporter", "dramatiq.worker.ConsumerThread"],
)
def test_one_complaint_a_minute_of_a_library_is_written(clock, library):
    complaints = ComplaintFilter()

    written = []
    for second in range(180):
        clock[0] = 1000.0 + second
        written += [second] if complaints.filter(record(library)) else []

    assert written == [0, COMPLAINT_SECONDS, 2 * COMPLAINT_SECONDS]


def test_complaints_of_all_exporters_share_the_minute(clock):
    complaints = ComplaintFilter()

    verdicts = [
        complaints.filter(record(f"opentelemetry.{name}")) for name in ("sdk", "exporter", "x")
    ]

    assert clock == [1000.0]
    assert verdicts == [True, False, False]


def test_other_lines_are_never_held_back(clock):
    complaints = ComplaintFilter()

    verdicts = [complaints.filter(record("access")) for _ in range(100)]

    assert clock == [1000.0]
    assert verdicts == [True] * 100
