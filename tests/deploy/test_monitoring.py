"""Rules, panels and runbooks speak of what the service exposes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from contextlib import ExitStack
from http import HTTPStatus

import httpx2
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import API_KEY
from tests.support.deployment import Worker
from tests.support.ports import HOST, free_port
from tests.support.processes import ROOT
from tests.support.waiting import eventually

MONITORING = ROOT / "monitoring"
RULES = MONITORING / "alerts.yaml"
UNIT_TESTS = MONITORING / "alerts_test.yaml"
DASHBOARDS = sorted((MONITORING / "dashboards").glob("*.json"))
FUNCTIONS = frozenset(
    {"absent", "and", "by", "histogram_quantile", "increase", "max"}
    | {"or", "rate", "sum", "unless", "vector"}
)
OF_PROMETHEUS = frozenset({"up"})
LABELS_OF_PROMETHEUS = frozenset({"instance", "job"})
SECTIONS = ["## What it means", "## First looks", "## What to do"]

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed"
)


def rules():
    return [
        rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
    ]


def alerts():
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def recorded():
    return {rule["record"] for rule in rules() if "record" in rule}


def panels(dashboard):
    return json.loads(dashboard.read_text())["panels"]


def expressions():
    in_rules = [rule["expr"] for rule in rules()]
    in_panels = [
        target["expr"]
        for dashboard in DASHBOARDS
        for panel in panels(dashboard)
        for target in panel.get("targets", [])
    ]
    return in_rules + in_panels


def metrics_in(expression):
    """Return the metrics that an expression of PromQL names."""
    without_labels = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\boffset \w+", "", expression)
    without_groups = re.sub(r"\b(by|on|without)\s*\([^)]*\)", "", without_labels)
    return set(re.findall(r"[a-z_][a-z0-9_:]*", without_groups)) - FUNCTIONS


def labels_in(expression):
    """Return the labels that an expression of PromQL selects or groups by."""
    selected = re.findall(r"[{,]\s*(\w+)\s*[=!]", expression)
    groups = re.findall(r"\b(?:by|on|without)\s*\(([^)]*)\)", expression)
    return {*selected, *re.findall(r"\w+", " ".join(groups))}


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
    assert named - samples - recorded() - OF_PROMETHEUS == set()


def test_rules_and_panels_select_and_group_by_labels_that_are_exposed(exposed):
    labels: dict[str, set[str]] = {}
    for sample in (sample for family in exposed for sample in family.samples):
        labels.setdefault(sample.name, set()).update(sample.labels)

    unknown = {
        (expression, label)
        for expression in expressions()
        for known in [set().union(*(labels.get(name, ()) for name in metrics_in(expression)))]
        for label in labels_in(expression) - known - LABELS_OF_PROMETHEUS
    }

    assert unknown == set()


def test_the_names_of_metrics_and_labels_are_found_in_expressions():
    expression = 'sum by (le) (rate(a_total{b="c"}[5m] offset 1d)) / up > 0.1 and d:e:f == 1'

    assert metrics_in(expression) == {"a_total", "up", "d:e:f"}
    assert labels_in(expression) == {"le", "b"}


def test_every_alert_has_a_runbook_that_says_what_to_do():
    for name, alert in alerts().items():
        page = ROOT / alert["annotations"]["runbook_url"]
        text = page.read_text()

        assert page.stem == name
        assert text.startswith(f"# {name}\n")
        assert re.findall(r"^## .*$", text, re.MULTILINE) == SECTIONS
        assert alert["labels"]["severity"] in {"page", "ticket"}


def test_every_runbook_belongs_to_an_alert_or_to_an_incident():
    """An incident is told by people; operations.md lists them, in names of small letters."""
    operations = (ROOT / "docs" / "operations.md").read_text()
    pages = {page.stem: page.read_text() for page in (ROOT / "docs" / "runbooks").glob("*.md")}
    incidents = {name: text for name, text in pages.items() if name.islower()}

    assert pages.keys() - incidents.keys() == set(alerts())
    for name, text in incidents.items():
        assert f"[{name}](runbooks/{name}.md)" in operations
        assert text.startswith(f"# {name}\n")
        assert re.findall(r"^## .*$", text, re.MULTILINE) == SECTIONS


def test_every_alert_is_tested_to_fire_and_to_keep_quiet():
    cases = [
        case
        for test in yaml.safe_load(UNIT_TESTS.read_text())["tests"]
        for case in test["alert_rule_test"]
    ]

    assert {case["alertname"] for case in cases if case["exp_alerts"]} == set(alerts())
    assert {case["alertname"] for case in cases if not case["exp_alerts"]} >= set(alerts()) - {
        "AvailabilityBudgetBurnsSlowly",
        "LatencyBudgetBurnsSlowly",
    }


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboards_panels_have_ids_titles_and_queries_of_their_own(dashboard):
    ids = [panel["id"] for panel in panels(dashboard)]
    graphs = [panel for panel in panels(dashboard) if panel["type"] != "row"]

    assert len(ids) == len(set(ids)) > 10
    assert len({panel["title"] for panel in panels(dashboard)}) == len(ids)
    assert all(panel["targets"] for panel in graphs)
    for panel in graphs:
        refs = [target["refId"] for target in panel["targets"]]
        assert len(refs) == len(set(refs))


@needs_promtool
@pytest.mark.parametrize("process", ["web", "worker"])
def test_promtool_has_no_complaint_about_an_exposition(expositions, process):
    result = promtool("check", "metrics", stdin=expositions[process])

    assert (result.returncode, result.stdout + result.stderr) == (0, "")


@needs_promtool
def test_promtool_accepts_the_rules():
    result = promtool("check", "rules", RULES)

    assert result.returncode == 0, result.stdout + result.stderr


@needs_promtool
def test_the_alerts_fire_when_they_should():
    result = promtool("test", "rules", UNIT_TESTS)

    assert result.returncode == 0, result.stdout + result.stderr


def promtool(*arguments, stdin=None):
    return subprocess.run(
        ["promtool", *arguments], input=stdin, capture_output=True, text=True, check=False
    )
