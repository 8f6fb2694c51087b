"""Rules, panels and runbooks speak of what the service exposes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.processes import ROOT
from tests.serving import eventually

MONITORING = ROOT / "monitoring"
RULES = MONITORING / "alerts.yaml"
UNIT_TESTS = MONITORING / "alerts_test.yaml"
DASHBOARDS = sorted((MONITORING / "dashboards").glob("*.json"))
FUNCTIONS = frozenset(
    {"absent", "and", "by", "histogram_quantile", "increase", "or", "rate", "sum", "vector"}
)
OF_PROMETHEUS = frozenset({"up"})
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
    without_labels = re.sub(r"\{[^}]*\}|\[[^\]]*\]", "", expression)
    without_groups = re.sub(r"\b(by|without)\s*\([^)]*\)", "", without_labels)
    return set(re.findall(r"[a-z_][a-z0-9_:]*", without_groups)) - FUNCTIONS


@pytest.fixture(scope="module")
def exposed(tmp_path_factory, migrated_sqlite):
    """What a process exposes after some traffic, with Redis out of reach."""
    from tests.serving import serving  # noqa: PLC0415 - see the fixture `serve`

    folder = tmp_path_factory.mktemp("exposed")
    database = shutil.copy(migrated_sqlite, folder)
    variables = {
        "RATE_LIMIT_ENABLED": "true",
        "REDIS_URL": "redis://127.0.0.1:1",
        "DELIVER_IN_WEB": "false",
    }
    with serving(folder, DATABASE_URL=f"sqlite:///{database}", **variables) as service:
        service.client.post("/users", json={"email": "ada@example.com", "name": "Ada"})
        eventually(lambda: "database_pool_limit" in service.client.get("/metrics").text)
        text = service.client.get("/metrics").text
    return list(text_string_to_metric_families(text))


@pytest.fixture(scope="module")
def exposed_by_worker():
    """What a worker exposes beside what every process does."""
    script = """
from prometheus_client import generate_latest
from userservice import instruments
instruments.set_breaker("email", 0)
instruments.observe_message("user.registered", "sent", 0.1)
instruments.set_backlog(0, 0, 0.0)
instruments.set_pool_depth("cpu", 0)
instruments.observe_task_wait("cpu", 0.1)
instruments.observe_task("cpu", "success", 0.1)
print(generate_latest().decode())
"""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    families = text_string_to_metric_families(done.stdout)
    ours = ("circuit_", "outbox_", "worker_")
    return [
        each
        for each in families
        if each.name.startswith(ours) and not each.name.endswith("_created")
    ]


def test_the_documentation_lists_every_metric_with_its_kind_and_labels(exposed, exposed_by_worker):
    table = (ROOT / "docs" / "telemetry.md").read_text()
    documented = {
        (name, kind, frozenset(re.findall(r"`(\w+)`", labels)))
        for name, kind, labels in re.findall(
            r"^\| `(\w+)` \| (counter|gauge|histogram) \|([^|]*)\|", table, re.MULTILINE
        )
    }

    assert documented == {
        (
            f"{family.name}_total" if family.type == "counter" else family.name,
            family.type,
            frozenset().union(*(sample.labels for sample in family.samples)) - {"le"},
        )
        for family in [*exposed, *exposed_by_worker]
    }


def test_every_metric_in_rules_and_panels_is_exposed_or_recorded(exposed):
    named = set().union(*map(metrics_in, expressions()))

    samples = {sample.name for family in exposed for sample in family.samples}
    assert len(named) > 10
    assert named - samples - recorded() - OF_PROMETHEUS == set()


def test_the_names_of_metrics_are_found_in_expressions():
    expression = 'sum by (le) (rate(a_total{b="c"}[5m])) / up > 0.1 and d:e:f == 1'

    assert metrics_in(expression) == {"a_total", "up", "d:e:f"}


def test_every_alert_has_a_runbook_that_says_what_to_do():
    for name, alert in alerts().items():
        page = ROOT / alert["annotations"]["runbook_url"]
        text = page.read_text()

        assert page.stem == name
        assert text.startswith(f"# {name}\n")
        assert re.findall(r"^## .*$", text, re.MULTILINE) == SECTIONS
        assert alert["labels"]["severity"] in {"page", "ticket"}


def test_every_runbook_belongs_to_an_alert():
    assert {page.stem for page in (ROOT / "docs" / "runbooks").glob("*.md")} == set(alerts())


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
def test_promtool_accepts_the_rules():
    result = promtool("check", "rules", RULES)

    assert result.returncode == 0, result.stdout + result.stderr


@needs_promtool
def test_the_alerts_fire_when_they_should():
    result = promtool("test", "rules", UNIT_TESTS)

    assert result.returncode == 0, result.stdout + result.stderr


def promtool(*arguments):
    return subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
