"""The panels of the dashboard show this service in one namespace, and 0 where 0 is true."""

from __future__ import annotations

import pytest

from docs import examples
from tests.support.kustomize import load
from tests.support.promql import (
    DASHBOARDS,
    failures,
    metrics_in,
    needs_promtool,
    panels,
    queries,
)

VARIABLES = {
    "$namespace": "production",
    "$instance": ".*",
    "$worker": ".*",
    "$__rate_interval": "5m",
}
# Without an event there is no duration. Of the others a missing series says more than a 0 would.
WITHOUT_ZERO = {
    *("Duration of all requests", "95th percentile by endpoint"),
    *("Attempts to deliver, 95th percentile", "Duration of tasks, 95th percentile"),
    "Wait for a pool, 95th percentile",
    *("Messages that wait", "Age of the oldest message that waits", "Messages that were given up"),
}


def evaluated(expression):
    """Return an expression as Grafana would send it, for production."""
    for variable, value in VARIABLES.items():
        expression = expression.replace(variable, value)
    return expression


def idle(job, namespace):
    """Return the series of a process that answers scrapes, and has done nothing yet."""
    series = f'up{{job="{job}", namespace="{namespace}", instance="a"}}'
    return {"series": series, "values": "1x20"}


def case(expression, *, has_results):
    """Return a test case: whether an expression has results after ten minutes."""
    samples = [{"value": 1, "labels": "{}"}] if has_results else []
    return {"expr": f"count({expression}) > bool 0", "eval_time": "10m", "exp_samples": samples}


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
def test_where_nothing_has_happened_panels_show_zero(tmp_path):
    counts = [
        evaluated(query)
        for title, query in queries()
        if title not in WITHOUT_ZERO and "database_pool_limit{" not in query.split("/")[0]
    ]
    jobs = ("cloudnative-app", "cloudnative-app-worker")
    cases = [case(f"({query}) == 0", has_results=True) for query in counts]
    test = {
        "interval": "1m",
        "input_series": [idle(job, "production") for job in jobs],
        "promql_expr_test": cases,
    }

    assert len(cases) > 20
    assert failures([test], tmp_path) == ""


@needs_promtool
def test_panels_show_neither_other_services_nor_other_namespaces(tmp_path):
    named = set().union(*(metrics_in(query) for _, query in queries()))
    foreign = ('job="shop", namespace="production"', 'job="cloudnative-app", namespace="staging"')
    labels = 'instance="a", le="+Inf", status_code="500", state="in_use", status="queued"'
    test = {
        "interval": "1m",
        "input_series": [
            {"series": f"{name}{{{whose}, {labels}}}", "values": "1+60x20"}
            for name in sorted(named)
            for whose in (*foreign, foreign[1].replace("-app", "-app-worker"))
        ],
        "promql_expr_test": [case(evaluated(query), has_results=False) for _, query in queries()],
    }

    assert failures([test], tmp_path) == ""


@needs_promtool
def test_panels_show_the_processes_of_their_namespace(tmp_path):
    """The counterpart: under the right names the same series are seen."""
    named = set().union(*(metrics_in(query) for _, query in queries()))
    labels = 'instance="a", le="+Inf", status_code="500", state="in_use", status="{}"'
    test = {
        "interval": "1m",
        "input_series": [
            {"series": f"{name}{{{whose}, {labels.format(status)}}}", "values": "1+60x20"}
            for name in sorted(named)
            for whose in (
                'job="cloudnative-app", namespace="production"',
                'job="cloudnative-app-worker", namespace="production"',
            )
            for status in ("queued", "abandoned")
        ],
        "promql_expr_test": [case(evaluated(query), has_results=True) for _, query in queries()],
    }

    assert failures([test], tmp_path) == ""


def test_the_example_for_a_cluster_holds_the_dashboard():
    (example,) = load((examples.EXAMPLES / "dashboard.yaml").read_text(encoding="utf-8"))

    assert example["data"] == {file.name: file.read_text(encoding="utf-8") for file in DASHBOARDS}
