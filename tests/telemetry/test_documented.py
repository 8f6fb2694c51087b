"""docs/telemetry.md lists each log event and each metric of the product, and no other."""

from __future__ import annotations

import ast
import re

import pytest

from chassis.telemetry.derived import DERIVED, Reading
from tests.support.processes import ROOT
from tests.support.source import PRODUCT

LOGGERS = {"logger", "log", "logging"}
LEVELS = {
    "debug": "DEBUG",
    "info": "INFO",
    "warning": "WARNING",
    "error": "ERROR",
    "exception": "ERROR",
    "critical": "CRITICAL",
}
# Kinds of prometheus_client, and how OpenTelemetry's meters make theirs.
KINDS = {"Counter": "counter", "Gauge": "gauge", "Histogram": "histogram"}
KINDS |= {name: name.lower() for name in ("Summary", "Info", "Enum")}
METER = re.compile(r"create_(?:observable_)?(counter|up_down_counter|gauge|histogram)")
# As do those that `admin export-metrics` reads from the database.
KINDS |= {"StoredMetric": "gauge", "add_gauge": "gauge"}
# Argument of Outage -> level at which it is logged.
OUTAGE = {"away": "WARNING", "back": "INFO"}
READINGS = {Reading.COUNT: "counter", Reading.HISTOGRAM: "histogram", Reading.LEVEL: "gauge"}
READINGS[Reading.SUM] = "gauge"


def calls(source):
    return [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]


def name_of(node):
    """Return the last part of a name: `log` of `worker.log`."""
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", None)


def is_logger(node):
    """Tell whether an expression is a logger: log, worker.log, _logger, getLogger("a")."""
    return (
        name_of(node.func) == "getLogger"
        if isinstance(node, ast.Call)
        else ((name_of(node) or "").strip("_").lower() in LOGGERS)
    )


def events(source):
    """Return (event, level) of all that a source logs; an event is a fixed sentence."""
    found = [
        (call.args[0], LEVELS[call.func.attr])
        for call in calls(source)
        if isinstance(call.func, ast.Attribute)
        and call.func.attr in LEVELS
        and is_logger(call.func.value)
    ]
    found += [
        (call.args[1], name_of(call.args[0]))
        for call in calls(source)
        if name_of(call.func) == "log" and len(call.args) > 1 and is_logger(call.func.value)
    ]
    found += [(call.args[1], "INFO") for call in calls(source) if name_of(call.func) == "LogEvent"]
    found += [
        (argument.value, OUTAGE[argument.arg])
        for call in calls(source)
        if name_of(call.func) == "Outage"
        for argument in call.keywords
        if argument.arg in OUTAGE
    ]
    return {
        (ast.literal_eval(message), level) for message, level in found if not is_handed_on(message)
    }


def metrics(source):
    """Return (name, kind) of all metrics that a source makes; a name is a fixed text.

    Classes of the same names from other modules make no metrics.
    """
    kinds = KINDS | kinds_of_imports(source)
    return {
        (ast.literal_eval(name), kind)
        for call in calls(source)
        if (kind := kind_of(call, kinds)) and (name := first_argument(call)) is not None
    }


def kinds_of_imports(source):
    """Return the kind of each name that a source gives to a class; None for other classes."""
    imports = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom))
    return {
        each.asname or each.name: KINDS[each.name] if is_ours(node.module) else None
        for node in imports
        for each in node.names
        if each.name in KINDS
    }


def is_ours(module):
    return str(module).partition(".")[0] in {"prometheus_client", "chassis"}


def kind_of(call, kinds):
    made_by_meter = METER.fullmatch(name_of(call.func) or "")
    return made_by_meter[1] if made_by_meter else kinds.get(name_of(call.func))


def first_argument(call):
    """Return the name that a metric is given; a parameter that is handed on is none."""
    named = [each.value for each in call.keywords if each.arg == "name"]
    first = (call.args + named)[0]
    return None if is_handed_on(first) else first


def is_handed_on(node):
    """Tell whether a name or an event is a parameter; those who hand it in fix its text."""
    return isinstance(node, ast.Name | ast.Attribute) and (name_of(node) or "").islower()


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
def g(self):
    self._logger.log(WARNING, "It bent")
    logging.getLogger("other").warning("It swayed")
    return Amount("e_total", "f"), Summary(name="g"), meter.create_counter("h")
from prometheus_client import Counter as Amount
"""

    assert events(source) == {
        ("Stopped: %s", "INFO"),
        ("It broke", "ERROR"),
        ("It began", "INFO"),
        ("It bent", "WARNING"),
        ("It swayed", "WARNING"),
    }
    assert metrics(source) == {
        *(("a", "gauge"), ("c_total", "counter"), ("e_total", "counter")),
        *(("g", "summary"), ("h", "counter")),
    }


def test_a_name_or_an_event_that_is_no_fixed_text_is_refused():
    with pytest.raises(ValueError, match="malformed"):
        metrics("Counter(NAME, 'help')")
    with pytest.raises(ValueError, match="malformed"):
        events("logger.info(TEXT)")


def test_classes_of_other_modules_are_no_metrics():
    assert metrics("from collections import Counter\nCounter('ab')") == set()
