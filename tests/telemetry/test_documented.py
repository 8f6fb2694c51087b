"""docs/telemetry.md lists each log event and each metric of the product, and no other."""

from __future__ import annotations

import ast
import re

from chassis.telemetry.derived import DERIVED, Reading
from tests.support.processes import ROOT

PRODUCT = [
    *ROOT.glob("*.py"),
    *(file for package in ("chassis", "userservice") for file in (ROOT / package).rglob("*.py")),
]
LOGGERS = {"logger", "log"}
LEVELS = {
    "debug": "DEBUG",
    "info": "INFO",
    "warning": "WARNING",
    "error": "ERROR",
    "exception": "ERROR",
    "critical": "CRITICAL",
}
KINDS = {"Counter": "counter", "Gauge": "gauge", "Histogram": "histogram"}
# As do those that `admin export-metrics` reads from the database.
KINDS |= {"StoredMetric": "gauge", "add_gauge": "gauge"}
# Argument of Outage -> level at which it is logged.
OUTAGE = {"away": "WARNING", "back": "INFO"}
READINGS = {Reading.COUNT: "counter", Reading.HISTOGRAM: "histogram", Reading.LEVEL: "gauge"}


def calls(source):
    return [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]


def name_of(node):
    """Return the last part of a name: `log` of `worker.log`."""
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", None)


def events(source):
    """Return (event, level) of all that a source logs; an event is a fixed sentence."""
    found = [
        (call.args[0], LEVELS[call.func.attr])
        for call in calls(source)
        if isinstance(call.func, ast.Attribute)
        and call.func.attr in LEVELS
        and name_of(call.func.value) in LOGGERS
    ]
    found += [(call.args[1], "INFO") for call in calls(source) if name_of(call.func) == "LogEvent"]
    found += [
        (argument.value, OUTAGE[argument.arg])
        for call in calls(source)
        if name_of(call.func) == "Outage"
        for argument in call.keywords
        if argument.arg in OUTAGE
    ]
    return {(ast.literal_eval(message), level) for message, level in found}


def metrics(source):
    """Return (name, kind) of all metrics that a source makes."""
    return {
        (call.args[0].value, KINDS[name_of(call.func)])
        for call in calls(source)
        if name_of(call.func) in KINDS and call.args and isinstance(call.args[0], ast.Constant)
    }


def of_product(read):
    return set().union(*(read(file.read_text(encoding="utf-8")) for file in PRODUCT))


def rows(heading):
    """Return the cells of all tables below a heading of docs/telemetry.md."""
    text = (ROOT / "docs" / "telemetry.md").read_text(encoding="utf-8")
    section = re.split(r"^## ", text, flags=re.MULTILINE)
    (body,) = (each for each in section if each.startswith(f"{heading}\n"))
    return [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in body.splitlines()
        if line.startswith("| ")
    ]


def test_every_log_event_is_documented_and_no_other():
    documented = {(row[0], row[1]) for row in rows("Logs") if row[1] in LEVELS.values()}

    assert documented == of_product(events)


def test_every_metric_is_documented_and_no_other():
    derived = {
        (each.exposed_name, READINGS[each.reading]) for some in DERIVED.values() for each in some
    }

    documented = {(row[0].strip("`"), row[1]) for row in rows("Metrics") if row[0] != "metric"}

    assert documented == of_product(metrics) | derived


def test_events_and_metrics_are_found_wherever_they_are():
    source = """
def f(worker):
    worker.log.info("Stopped: %s", 1)
    logging.getLogger(__name__)
    if logger:
        logger.exception(
            "It "
            "broke"
        )
    ready = LogEvent(logger, "It began")
    return Gauge("a", "b"), Histogram(points, CUMULATIVE), metrics.Counter("c_total", "d")
"""

    assert events(source) == {
        ("Stopped: %s", "INFO"),
        ("It broke", "ERROR"),
        ("It began", "INFO"),
    }
    assert metrics(source) == {("a", "gauge"), ("c_total", "counter")}
