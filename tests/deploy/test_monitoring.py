"""Rules, panels and documentation speak of what the service exposes."""

from __future__ import annotations

import re
import shutil
from contextlib import ExitStack
from http import HTTPStatus

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import API_KEY
from tests.support.deployment import Worker
from tests.support.ports import HOST, free_port
from tests.support.processes import ROOT
from tests.support.promql import (
    expressions,
    labels_in,
    metrics_in,
    needs_promtool,
    promtool,
    recorded,
    without_a_job,
)
from tests.support.waiting import eventually

OF_PROMETHEUS: dict[str, set[str]] = {"up": set()}
LABELS_OF_PROMETHEUS = frozenset({"instance", "job", "namespace"})
# As kube-state-metrics documents them.
OF_THE_CLUSTER = {
    "kube_cronjob_created": {"cronjob"},
    "kube_cronjob_status_last_successful_time": {"cronjob"},
    "kube_horizontalpodautoscaler_spec_max_replicas": {"horizontalpodautoscaler"},
    "kube_horizontalpodautoscaler_spec_min_replicas": {"horizontalpodautoscaler"},
    "kube_horizontalpodautoscaler_status_desired_replicas": {"horizontalpodautoscaler"},
    "kube_pod_container_status_last_terminated_reason": {"pod", "container", "reason"},
    "kube_pod_container_status_restarts_total": {"pod", "container"},
    "kube_pod_init_container_status_restarts_total": {"pod", "container"},
}


@pytest.fixture(scope="module")
def expositions(tmp_path_factory, migrated_sqlite):
    """The metrics of web and worker after some traffic, with Redis and the provider away."""
    from tests.support.serving import serving  # noqa: PLC0415 - see the fixture `serve`

    folder = tmp_path_factory.mktemp("exposed")
    variables = {
        "DATABASE_URL": f"sqlite:///{shutil.copy(migrated_sqlite, folder)}",
        "DELIVER_IN_WEB": "false",
        "EMAIL_SERVICE_URL": f"http://{HOST}:{free_port()}/send",
        "RATE_LIMIT_ENABLED": "true",
        "REDIS_URL": f"redis://{HOST}:{free_port()}",
        "WEB_CONCURRENCY": "2",
        "WORKER_METRICS_PORT": str(free_port()),
    }
    with serving(folder, **variables) as service, ExitStack() as running:
        worker = Worker(folder, variables)
        running.callback(worker.kill)
        worker.await_ready()
        return {
            "web": exposed_by_web(service),
            "worker": exposed_by_worker(f"http://{HOST}:{variables['WORKER_METRICS_PORT']}"),
        }


def exposed_by_web(service):
    for number in range(6):  # as many failed e-mails open a circuit breaker
        body = {"email": f"user{number}@example.com", "name": "Ada"}
        assert service.client.post("/users", json=body).status_code == 201
    headers = {"X-API-Key": API_KEY, "Content-Type": "application/x-ndjson"}
    service.client.post("/users/import", content=b"not JSON\n", headers=headers)
    assert service.client.request("BREW", "/users").status_code == HTTPStatus.NOT_IMPLEMENTED
    eventually(lambda: "database_pool_limit" in service.client.get("/metrics").text)
    return service.client.get("/metrics").text


def exposed_by_worker(url):
    def text():
        return httpx2.get(f"{url}/metrics").text

    eventually(lambda: "circuit_breaker_state{" in text() and "import_lines_total{" in text())
    eventually(lambda: "worker_pool_task_duration_seconds_count{" in text())
    return text()


def families(exposition):
    """Return the metrics of an exposition, without what the Python library says of a process."""
    return [
        family
        for family in text_string_to_metric_families(exposition)
        if not family.name.startswith(("process_", "python_"))
    ]


@pytest.fixture(scope="module")
def exposed(expositions):
    return [family for exposition in expositions.values() for family in families(exposition)]


def test_the_documentation_lists_every_metric_with_its_kind_and_labels(exposed):
    text = (ROOT / "docs" / "telemetry.md").read_text()
    table, written_by_a_command, _ = text.partition("`admin export-metrics` writes ")
    documented = {
        (name, kind, frozenset(re.findall(r"`(\w+)`", labels)))
        for name, kind, labels in re.findall(
            r"^\| `(\w+)` \| (counter|gauge|histogram) \|([^|]*)\|", table, re.MULTILINE
        )
    }

    assert written_by_a_command
    assert documented == {
        (
            f"{family.name}_total" if family.type == "counter" else family.name,
            family.type,
            frozenset().union(*(sample.labels for sample in family.samples)) - {"le"},
        )
        for family in exposed
    }


def test_every_metric_in_rules_and_panels_is_exposed_or_recorded(exposed):
    named = set().union(*map(metrics_in, expressions()))

    samples = {sample.name for family in exposed for sample in family.samples}
    assert len(named) > 15
    known = samples | recorded() | OF_PROMETHEUS.keys() | OF_THE_CLUSTER.keys()
    assert named - known == set()


def test_rules_and_panels_select_and_group_by_labels_that_are_exposed(exposed):
    labels: dict[str, set[str]] = {**OF_PROMETHEUS, **OF_THE_CLUSTER}
    for sample in (sample for family in exposed for sample in family.samples):
        labels.setdefault(sample.name, set()).update(sample.labels)

    unknown = {
        (expression, label)
        for expression in expressions()
        for known in [set().union(*(labels.get(name, ()) for name in metrics_in(expression)))]
        for label in labels_in(expression) - known - LABELS_OF_PROMETHEUS
    }

    assert unknown == set()


@pytest.mark.parametrize("expression", expressions())
def test_no_rule_and_no_panel_reads_the_metrics_of_other_services(expression):
    assert without_a_job(expression) == []


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        ('sum(a{job="b"}) / a:c{d="e", job=~"b"}', []),
        ('rate(a[5m]) / a{job="b"}', ["a"]),
        ('a{d="job"}', ["a"]),
    ],
)
def test_a_metric_of_any_job_is_found(expression, found):
    assert without_a_job(expression) == found


def test_the_names_of_metrics_and_labels_are_found_in_expressions():
    expression = 'sum by (le) (rate(a_total{b="c"}[5m] offset 1d)) / up > 0.1 and d:e:f == 1'

    assert metrics_in(expression) == {"a_total", "up", "d:e:f"}
    assert labels_in(expression) == {"le", "b"}


@needs_promtool
@pytest.mark.parametrize("process", ["web", "worker"])
def test_promtool_has_no_complaint_about_an_exposition(expositions, process):
    result = promtool("check", "metrics", stdin=expositions[process])

    assert (result.returncode, result.stdout + result.stderr) == (0, "")
