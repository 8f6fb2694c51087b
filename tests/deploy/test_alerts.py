"""Alerts fire when they should, for this service alone, and for each namespace by itself."""

from __future__ import annotations

import copy
import re

import pytest
import yaml

from docs import examples
from tests.support.kustomize import load
from tests.support.processes import ROOT
from tests.support.promql import (
    MONITORING,
    RULES,
    UNIT_TESTS,
    alerts,
    failures,
    needs_promtool,
    promtool,
    rules,
)

# One address for all of them, so that a team replaces one text by its own.
RUNBOOKS = "https://github.com/example/cloudnative-user-api/blob/main/docs/runbooks/"
SECTIONS = ["## What it means", "## First looks", "## What to do"]
# It tells of pods that nobody sees, whosoever else is there.
FIRES_WITHOUT_SERIES = {"NoTargetUp"}
# Two days, minute by minute: once is enough.
LONG = "Messages that were given up today are a ticket, yesterday's are not"
JOBS = re.compile(r'job="(?:cloudnative-app(?:-worker)?|kube-state-metrics)"')
META = "__meta_kubernetes_"


def unit_tests():
    return yaml.safe_load(UNIT_TESTS.read_text(encoding="utf-8"))["tests"]


def of_one_namespace():
    """Return the tests that know of production alone."""
    return [test for test in unit_tests() if "staging" not in str(test) and test["name"] != LONG]


def cases(alert_tests):
    return [case for test in alert_tests for case in test["alert_rule_test"]]


def test_every_alert_has_a_runbook_that_says_what_to_do():
    for name, alert in alerts().items():
        page = ROOT / "docs" / "runbooks" / f"{name}.md"
        text = page.read_text()

        assert alert["annotations"]["runbook_url"] == f"{RUNBOOKS}{page.name}"
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
    every = cases(unit_tests())

    assert {case["alertname"] for case in every if case["exp_alerts"]} == set(alerts())
    assert {case["alertname"] for case in every if not case["exp_alerts"]} >= set(alerts()) - {
        "AvailabilityBudgetBurnsSlowly",
        "LatencyBudgetBurnsSlowly",
    }


def test_every_result_is_of_one_namespace():
    grouped = {
        rule.get("record") or rule["alert"]: re.findall(r"\b(?:by|on) \(([^)]*)\)", rule["expr"])
        for rule in rules()
    }

    without = {
        name for name, groups in grouped.items() if not all("namespace" in g for g in groups)
    }
    assert without == set()
    assert all("namespace" in alert["annotations"]["summary"] for alert in alerts().values())


@needs_promtool
def test_promtool_accepts_the_rules():
    result = promtool("check", "rules", RULES)

    assert result.returncode == 0, result.stdout + result.stderr


@needs_promtool
def test_the_alerts_fire_when_they_should():
    result = promtool("test", "rules", UNIT_TESTS)

    assert result.returncode == 0, result.stdout + result.stderr


@needs_promtool
def test_no_alert_fires_for_another_service(tmp_path):
    """Every series of the tests that make alerts fire, under the job of a stranger."""
    strangers = [test for test in unit_tests() if test["name"] != LONG]
    for series in (each for test in strangers for each in test["input_series"]):
        series["series"] = JOBS.sub('job="shop"', series["series"])
    for test in strangers:
        test["alert_rule_test"] = [
            case | {"exp_alerts": []}
            for case in test["alert_rule_test"]
            if case["alertname"] not in FIRES_WITHOUT_SERIES
        ]

    assert sum(bool(case["exp_alerts"]) for case in cases(unit_tests())) > len(alerts())
    assert failures(strangers, tmp_path) == ""


@needs_promtool
def test_two_namespaces_that_fail_alike_are_told_of_each_by_itself(tmp_path):
    doubled = [in_two_namespaces(test) for test in of_one_namespace()]

    assert len(doubled) > len(alerts()) / 2
    assert failures(doubled, tmp_path) == ""


def in_two_namespaces(test):
    """Return a test in which a second namespace has the same series, and the same alerts."""

    def as_staging(each):
        return yaml.safe_load(yaml.safe_dump(each).replace("production", "staging"))

    doubled = copy.deepcopy(test)
    doubled["input_series"] += as_staging(test["input_series"])
    for case in doubled["alert_rule_test"]:
        case["exp_alerts"] = [*case["exp_alerts"], *as_staging(case["exp_alerts"])]
    return doubled


def test_the_example_for_the_operator_holds_the_rules():
    (example,) = load((examples.EXAMPLES / "prometheusrule.yaml").read_text(encoding="utf-8"))

    assert example["spec"] == yaml.safe_load(RULES.read_text(encoding="utf-8"))


@needs_promtool
@pytest.mark.parametrize(
    ("pod", "job"),
    [
        (("cloudnative-app", "web", "8080", "Running"), "cloudnative-app"),
        (("cloudnative-app", "worker", "8080", "Running"), "cloudnative-app-worker"),
        (("cloudnative-app", "cleanup", "", "Running"), None),
        (("cloudnative-app", "worker", "8080", "Failed"), None),
        # A sidecar, or the port of the API beside a management port.
        (("cloudnative-app", "web", "8081", "Running"), None),
        (("shop", "web", "8080", "Running"), None),
    ],
)
def test_a_pod_is_scraped_under_the_job_that_the_alerts_select(pod, job, tmp_path):
    labels = scraped_as(tmp_path, *pod)

    assert labels.get("job") == job
    if job:
        assert (labels["namespace"], labels["pod"]) == ("production", "a-pod")


def scraped_as(folder, name, component, port, phase):
    """Return the labels of a target that the scrape configuration makes of a pod."""
    config = yaml.safe_load((MONITORING / "scrape.yaml").read_text(encoding="utf-8"))
    (scrape,) = config["scrape_configs"]
    assert scrape.pop("kubernetes_sd_configs") == [{"role": "pod"}]  # needs a cluster
    found = {
        "pod_label_app_kubernetes_io_name": name,
        "pod_label_app_kubernetes_io_component": component,
        "pod_container_port_number": port,
        "pod_annotation_prometheus_io_port": "8080",
        "pod_phase": phase,
        "namespace": "production",
        "pod_name": "a-pod",
    }
    labels = {f"{META}{key}": value for key, value in found.items()}
    scrape["static_configs"] = [{"targets": ["192.0.2.1:80"], "labels": labels}]
    file = folder / "prometheus.yaml"
    file.write_text(yaml.safe_dump(config), encoding="utf-8")
    result = promtool("check", "service-discovery", "--timeout=1s", file, scrape["job_name"])
    (target,) = yaml.safe_load(result.stdout)
    return target["labels"]
