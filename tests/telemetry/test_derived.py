from __future__ import annotations

import re

import pytest
from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult
from opentelemetry.sdk.resources import Resource

from chassis.telemetry.derived import DERIVED, relabeled
from chassis.telemetry.metric_export import MetricPush

ALL = {each.name: each for some in DERIVED.values() for each in some}
STORED = {"method": "GET", "status_code": "200", "endpoint": "things.get_thing"}
ROUTES = {"things.get_thing": "/things/<id>"}


class Kept(MetricExporter):
    """Keeps metrics by their name instead of sending them."""

    def export(self, metrics_data, timeout_millis=0, **_options):  # noqa: ARG002 - the exporter's
        (resource,) = metrics_data.resource_metrics
        (scope,) = resource.scope_metrics
        self.metrics = {metric.name: metric for metric in scope.metrics}
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis=0):  # noqa: ARG002 - the exporter's
        return True

    def shutdown(self, timeout_millis=0, **_options):
        pass


@pytest.fixture
def pushed(client):
    """The metrics of a push after a request."""
    client.get("/nothing-is-here")
    kept = Kept()
    MetricPush(kept, Resource({}), routes=ROUTES, interval_seconds=60).close()
    return kept.metrics


def test_both_formats_tell_every_metric_that_is_read_off_another(client, pushed):
    kinds = dict(re.findall(r"^# TYPE (\S+) (\w+)$", client.get("/metrics").text, re.MULTILINE))

    assert {each.exposed_name for each in ALL.values()} <= set(kinds)
    assert set(ALL) <= set(pushed)


@pytest.mark.parametrize("name", ALL)
def test_a_pushed_metric_has_the_unit_and_the_words_of_the_table(pushed, name):
    assert (pushed[name].unit, pushed[name].description) == (
        ALL[name].unit,
        ALL[name].documentation,
    )


def test_a_duration_has_the_labels_of_the_semantic_conventions():
    labels = dict(relabeled(ALL["http.server.request.duration"], STORED, ROUTES))

    assert labels == {
        "http.request.method": "GET",
        "http.response.status_code": "200",
        "http.route": "/things/<id>",
        "url.scheme": "http",
    }


@pytest.mark.parametrize(
    ("status", "error"),
    [("200", None), ("404", None), ("499", None), ("500", "500"), ("503", "503")],
)
def test_a_duration_names_the_error_of_a_fault_and_of_no_refusal(status, error):
    stored = STORED | {"status_code": status}

    labels = dict(relabeled(ALL["http.server.request.duration"], stored, ROUTES))

    assert labels.get("error.type") == error


def test_requests_being_worked_on_are_told_by_method_and_in_all(pushed):
    points = pushed["http.server.active_requests"].data.data_points

    assert {"GET", "POST"} <= {each.attributes["http.request.method"] for each in points}
    assert {each.attributes["url.scheme"] for each in points} == {"http"}
    (total,) = pushed["active_connections"].data.data_points
    assert (total.attributes, total.value) == ({}, sum(each.value for each in points))


def test_a_route_that_is_not_known_is_empty():
    labels = dict(relabeled(ALL["http.server.request.duration"], STORED, {}))

    assert labels["http.route"] == ""


def test_a_total_keeps_its_labels():
    assert dict(relabeled(ALL["http_requests_total"], STORED, ROUTES)) == STORED
