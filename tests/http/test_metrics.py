from __future__ import annotations

import os
import shutil
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import httpx2
import psutil
import psycopg2
import pytest
from flask import Flask
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from chassis.http import metrics
from chassis.telemetry import instruments
from chassis.telemetry.instruments import bounded, files_in
from tests.conftest import API_KEY
from tests.support.collector import ONE_PROTOCOL, attributes_of
from tests.support.loopback import NO_TLS
from tests.support.ports import HOST, free_port
from tests.support.serving import in_parallel
from tests.support.waiting import DEADLINE_SECONDS, eventually

CREATED = {"method": "POST", "status_code": "201", "endpoint": "users.create_user"}
CUMULATIVE = 2
NOBODY = "/users/018f0000-0000-7000-8000-000000000000"


def create(client, number, **members):
    body = {"email": f"user{number}@example.com", "name": "Test User"} | members
    return client.post("/users", json=body).status_code


def counts(service):
    """Read the number of creations in one scrape, under each of its names."""
    samples = service.samples()

    def total(name, **labels):
        wanted = set(labels.items())
        return sum(
            value for (each, own), value in samples.items() if each == name and wanted <= own
        )

    return [
        total("http_requests_total", **CREATED),
        total("http_request_duration_seconds_count", **CREATED),
        total("http_request_duration_seconds_bucket", le="+Inf", **CREATED),
        total(
            "http_server_request_duration_seconds_count",
            http_request_method="POST",
            http_route="/users",
            http_response_status_code="201",
        ),
        total("users_created_total"),
    ]


def test_totals_of_all_workers_are_exact_on_every_scrape_whatever_becomes_of_them(serve):
    service = serve(WEB_CONCURRENCY="3")
    url = str(service.client.base_url)

    statuses = in_parallel(200, 5, create, url)
    scrapes = [counts(service) for _ in range(20)]
    killed = service.workers[0]
    os.kill(killed, signal.SIGKILL)
    eventually(lambda: killed not in service.workers and len(service.workers) == 3)
    eventually(lambda: service.output.count("Booting worker") == 4)
    after_the_kill = [counts(service) for _ in range(10)]
    in_parallel(40, 4, lambda client, number: create(client, 1000 + number), url)
    after_more = counts(service)
    before_reload = set(service.workers)
    service.process.send_signal(signal.SIGHUP)
    eventually(lambda: len(service.workers) == 3 and not before_reload & set(service.workers))
    in_parallel(10, 2, lambda client, number: create(client, 2000 + number), url)

    assert statuses == [201] * 200
    assert scrapes == [[200] * 5] * 20
    assert after_the_kill == [[200] * 5] * 10
    assert after_more == [240] * 5
    assert counts(service) == [250] * 5
    assert service.samples()["active_connections", frozenset()] == 0


def test_requests_in_progress_are_counted_and_a_killed_workers_are_forgotten(serve, postgresql_url):
    service = serve(WEB_CONCURRENCY="2", DATABASE_URL=postgresql_url)
    assert service.samples().get(("active_connections", frozenset()), 0) == 0

    url = str(service.client.base_url)
    with (
        psycopg2.connect(postgresql_url.replace("+psycopg2", "")) as blocker,
        blocker.cursor() as cursor,
    ):
        cursor.execute("LOCK TABLE users")

        def blocked():
            with httpx2.Client(base_url=url, timeout=DEADLINE_SECONDS, verify=NO_TLS) as client:
                try:
                    return create(client, 1)
                except httpx2.TransportError:
                    return None

        with ThreadPoolExecutor(1) as threads:
            call = threads.submit(blocked)
            eventually(lambda: service.total("active_connections") == 1)
            during = service.total("http_server_active_requests")
            for pid in service.workers:
                os.kill(pid, signal.SIGKILL)
            call.result()
    blocker.close()
    eventually(lambda: service.output.count("Booting worker") == 4)
    eventually(lambda: service.client.get("/health").status_code == 200)

    assert during == 1
    assert service.total("active_connections") == 0


def test_a_worker_that_is_starting_breaks_no_scrape(serve, tmp_path):
    directory = tmp_path / "metrics"
    directory.mkdir()
    service = serve(PROMETHEUS_MULTIPROC_DIR=str(directory))
    create(service.client, 1)

    for kind in ("counter", "histogram", "gauge_livesum"):
        (directory / f"{kind}_99999.db").touch()

    assert counts(service) == [1] * 5


def test_a_file_of_counts_that_vanishes_during_a_scrape_breaks_none(monkeypatch, tmp_path):
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    monkeypatch.setattr(instruments, "files_in", lambda _directory: [tmp_path / "counter_1.db"])

    names = [each.name for each in metrics.stored_metrics()]

    assert [each for each in names if not each.startswith("process_")] == []


def test_a_request_is_over_also_when_the_application_breaks(monkeypatch):
    def active():
        return REGISTRY.get_sample_value("active_connections") or 0

    app = Flask("broken")
    monkeypatch.setattr(app, "wsgi_app", lambda _environ, _start: 1 / 0)
    monkeypatch.setattr(app, "wsgi_app", metrics.layer(app))
    before = active()

    with pytest.raises(ZeroDivisionError):
        app.test_client().get("/nowhere")

    assert active() == before


def test_counts_do_not_outlast_a_start_and_other_files_do(serve, tmp_path):
    earlier = tmp_path / "counter_99999.db"
    earlier.write_bytes(bytes(16))
    other = tmp_path / "counter_of_stock.db"
    other.touch()

    service = serve(PROMETHEUS_MULTIPROC_DIR=str(tmp_path))
    is_there_while_serving = earlier.exists()
    service.stop()

    assert not is_there_while_serving
    assert not files_in(str(tmp_path))
    assert other.exists()


def test_a_directory_of_counts_that_the_last_stop_removed_is_made_again(serve, tmp_path):
    directory = tmp_path / "counts"
    serve(PROMETHEUS_MULTIPROC_DIR=str(directory)).stop()
    is_there_between = directory.exists()
    service = serve(PROMETHEUS_MULTIPROC_DIR=str(directory))

    create(service.client, 1)

    assert not is_there_between
    assert counts(service) == [1] * 5


def test_labels_hold_known_values_alone(serve):
    service = serve()

    create(service.client, 1, source="web", tier="pro")
    create(service.client, 2, source="evil\n1", tier="x")
    create(service.client, 3, source="carrier pigeon", tier="platinum")
    create(service.client, 4)
    service.client.request("BREW", "/users")
    service.client.get("/nope/1")
    service.client.get("/nope/2")
    service.client.get("/users/1", headers={"X-API-Key": API_KEY})

    samples = service.samples()
    users = {
        labels: value
        for (name, labels), value in samples.items()
        if "users_created" in name and value
    }
    assert {tuple(sorted(labels)): value for labels, value in users.items()} == {
        (("signup_source", "web"), ("user_tier", "pro")): 1,
        (("signup_source", "other"), ("user_tier", "other")): 1,
        (("signup_source", "unknown"), ("user_tier", "free")): 1,
    }
    kinds = {
        (own["method"], own["status_code"], own["endpoint"])
        for (name, labels) in samples
        if name == "http_requests_total"
        for own in [dict(labels)]
    }
    assert kinds == {
        ("POST", "201", "users.create_user"),
        ("POST", "400", "users.create_user"),
        ("_OTHER", "501", "unknown"),
        ("GET", "404", "unknown"),
    }


@pytest.mark.parametrize("value", ["web", "other"])
def test_a_known_label_value_stays(value):
    assert bounded(value, {"web"}) == value


def test_probes_and_scrapes_are_not_counted(client):
    paths = ("/health", "/ready", "/metrics", "/version")

    for path in paths:
        client.get(path)

    text = client.get("/metrics").text
    assert text.startswith("# HELP")
    assert not any(f'endpoint="{each}' in text for each in ("health", "metrics"))


def test_a_scrape_says_what_it_is(client):
    response = client.get("/metrics")

    assert response.status_code == 200
    assert response.mimetype == "text/plain"
    assert list(text_string_to_metric_families(response.text))


def test_pushed_totals_are_the_same_as_those_that_are_scraped(serve, collector):
    service = serve(WEB_CONCURRENCY="3", **collector.variables)
    url = str(service.client.base_url)
    in_parallel(60, 5, create, url)
    scraped = counts(service)
    assert collector.wait_for(lambda: pushed(collector, "users_created_total") == 60)

    in_parallel(30, 5, lambda client, number: create(client, 100 + number), url)
    totals = dict.fromkeys(
        (
            *("users_created_total", "http_requests_total"),
            *("http_request_duration_seconds", "http.server.request.duration"),
        ),
        90,
    )
    totals |= dict.fromkeys(("active_connections", "http.server.active_requests"), 0)
    assert collector.wait_for(lambda: {each: pushed(collector, each) for each in totals} == totals)
    service.stop()

    assert scraped == [60] * 5
    assert {each: pushed(collector, each) for each in totals} == totals


def test_the_last_counts_are_pushed_when_the_process_ends(serve, collector):
    service = serve(**(collector.variables | {"OTEL_METRIC_EXPORT_INTERVAL": "600000"}))
    in_parallel(20, 4, create, str(service.client.base_url))

    service.stop()

    assert pushed(collector, "users_created_total") == 20


def test_pushed_histograms_are_cumulative_and_named_by_the_conventions(serve, collector):
    service = serve(**collector.variables)

    create(service.client, 1)
    service.client.get("/nope")
    assert collector.wait_for(lambda: pushed(collector, "http.server.request.duration") == 2)
    service.stop()

    [metric] = collector.latest("http.server.request.duration").values()
    assert metric.data.unit == "s"
    assert metric.data.histogram.aggregation_temporality == CUMULATIVE
    points = {attributes_of(point)["http.request.method"]: point for point in metric.points}
    assert attributes_of(points["POST"]) == {
        "http.request.method": "POST",
        "http.response.status_code": 201,
        "http.route": "/users",
        "url.scheme": "http",
    }
    assert "http.route" not in attributes_of(points["GET"])
    point = points["POST"]
    assert sum(point.bucket_counts) == point.count == 1
    assert len(point.bucket_counts) == len(point.explicit_bounds) + 1
    assert 0 < point.sum < 30
    assert not point.HasField("min")
    assert point.start_time_unix_nano < point.time_unix_nano
    [users] = collector.latest("users_created_total").values()
    assert users.data.sum.is_monotonic
    assert users.data.sum.aggregation_temporality == CUMULATIVE


DELTA = 1


def test_pushed_counts_are_those_since_the_last_push_on_request(serve, collector):
    delta = {"OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": "delta"}
    service = serve(**(collector.variables | delta))
    for number in range(3):
        create(service.client, number)
        assert collector.wait_for(partial(has_grown, collector, number + 1))
    service.stop()

    assert added_up(collector, "users_created_total") == 3
    assert added_up(collector, "http.server.request.duration") == 3
    sums = [each.data for each in collector.metrics if each.data.name == "users_created_total"]
    assert {each.sum.aggregation_temporality for each in sums} == {DELTA}
    active = [each.data for each in collector.metrics if "active_requests" in each.data.name]
    assert {each.sum.aggregation_temporality for each in active} == {CUMULATIVE}


def has_grown(collector, number):
    grown = ("users_created_total", "http.server.request.duration")
    return all(added_up(collector, each) >= number for each in grown)


def added_up(collector, name):
    """Add up all that was ever sent."""
    points = [x for each in collector.metrics if each.data.name == name for x in each.points]
    return sum(x.count if hasattr(x, "bucket_counts") else x.as_double + x.as_int for x in points)


@pytest.mark.parametrize("collector", ONE_PROTOCOL, indirect=True)
def test_no_gauge_is_pushed_as_a_ratio(serve, collector):
    service = serve(**collector.variables)
    create(service.client, 1)
    assert collector.wait_for(lambda: pushed(collector, "http_request_duration_seconds") == 1)
    service.stop()

    units = {each.data.name: each.data.unit for each in collector.metrics}
    assert "1" not in units.values()
    assert units["process_resident_memory_bytes"] == "By"
    assert units["database_pool_connections"] == "{connection}"
    assert units["active_connections"] == units["http.server.active_requests"] == "{request}"
    assert units["http_request_duration_seconds"] == "s"
    assert units["service_build_info"] == ""
    assert "http_server_active_requests" not in units


def test_instruments_are_there_from_the_start(serve):
    samples = serve(APP_VERSION="1.2.3", BUILD_ID="abc", RATE_LIMIT_ENABLED="true").samples()

    families = {name for name, _ in samples}
    expected = {
        *("active_connections", "http_server_active_requests", "users_created_total"),
        *("import_lines_total", "rate_limit_errors_total", "database_pool_limit"),
        *("outbox_messages", "outbox_delivery_duration_seconds_count"),
    }
    assert expected <= families
    zeros = ["users_created_total", "rate_limit_decisions_total", "rate_limit_errors_total"]
    assert {value for (name, _), value in samples.items() if name in zeros} == {0}
    decisions = [dict(own) for name, own in samples if name == "rate_limit_decisions_total"]
    assert {(own["limit"], own["decision"]) for own in decisions} == {
        (limit, decision)
        for limit in ("registration", "login", "password", "recovery", "recovery_client", "export")
        for decision in ("allowed", "refused")
    }
    build = {"version": "1.2.3", "build_id": "abc", "environment": "development"}
    assert samples["service_build_info", frozenset(build.items())] == 1


def test_the_web_processes_of_a_pod_tell_what_they_use(serve):
    service = serve(WEB_CONCURRENCY="2")
    processes = [psutil.Process(pid) for pid in (service.process.pid, *service.workers)]
    samples = {name: value for (name, own), value in service.samples().items() if not own}

    resident = sum(each.memory_info().rss for each in processes)
    assert samples["process_resident_memory_bytes"] == pytest.approx(resident, rel=0.2)
    assert samples["process_start_time_seconds"] == pytest.approx(processes[0].create_time(), abs=2)
    assert 3 < samples["process_open_fds"] < 200
    assert samples["process_virtual_memory_bytes"] > resident


def test_the_cpu_time_of_a_pod_does_not_fall_when_a_worker_dies(serve):
    service = serve(WEB_CONCURRENCY="2")
    before = service.total("process_cpu_seconds_total")

    killed = service.workers[0]
    os.kill(killed, signal.SIGKILL)
    eventually(lambda: killed not in service.workers and len(service.workers) == 2)

    assert service.total("process_cpu_seconds_total") >= before > 0


@pytest.mark.parametrize("collector", ONE_PROTOCOL, indirect=True)
@pytest.mark.parametrize("interval", ["", "soon", "0", "-1"])
def test_an_interval_that_makes_no_sense_stops_nothing(serve, collector, interval):
    service = serve(**(collector.variables | {"OTEL_METRIC_EXPORT_INTERVAL": interval}))

    create(service.client, 1)
    service.stop()

    assert pushed(collector, "users_created_total") == 1


def pushed(collector, name):
    """Add up what each process sent last."""
    total = 0
    for metric in collector.latest(name).values():
        for point in metric.points:
            is_histogram = hasattr(point, "bucket_counts")
            total += point.count if is_histogram else point.as_double or point.as_int
    return total


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is not installed")
def test_prometheus_reads_what_clients_counted(serve, tmp_path):
    service = serve(WEB_CONCURRENCY="2")
    in_parallel(50, 5, create, str(service.client.base_url))
    port = free_port()
    configuration = tmp_path / "prometheus.yml"
    configuration.write_text(
        "global: {scrape_interval: 1s, scrape_timeout: 1s}\n"
        "scrape_configs: [{job_name: users, static_configs: "
        f'[{{targets: ["{HOST}:{service.port}"]}}]}}]\n'
    )
    command = [
        "prometheus",
        f"--config.file={configuration}",
        f"--storage.tsdb.path={tmp_path}/data",
        f"--web.listen-address={HOST}:{port}",
    ]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as prometheus:
        try:
            url = f"http://{HOST}:{port}/api/v1/query"
            query = {"query": "sum(users_created_total)"}

            def value():
                try:
                    answer = httpx2.get(url, params=query)
                except httpx2.TransportError:
                    return None
                result = answer.json()["data"]["result"] if answer.status_code == 200 else []
                return float(result[0]["value"][1]) if result else None

            eventually(lambda: value() is not None)

            assert value() == 50
        finally:
            prometheus.terminate()
