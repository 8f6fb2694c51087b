from __future__ import annotations

import io
import json
import logging
import re
import warnings
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace

from chassis.clients.otlp_exporters import make_exporter
from config import AppConfig, Environment
from observability import Telemetry, setup_logging
from tests.support.collector import collector as run_collector

CONFIG = AppConfig(app_version="1.2.3", build_id="abc", environment=Environment.STAGING)
HOSTILE = [
    'x\n{"level": "ERROR", "message": "forged"}',
    'x\r\n{"forged": true}',
    "x\u2028y\u2029z\x85",
    '"},{"message": "forged"',
    "\x00\x1b[2J\x7f",
    "😀",
]


@pytest.fixture(autouse=True)
def logging_as_it_was():
    """Undo what a test sets up, for the tests after it."""
    root = logging.getLogger()
    names = ("alembic", "urllib3", "redis")
    handlers, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in names}
    yield
    logging.captureWarnings(capture=False)
    root.handlers[:] = handlers
    root.setLevel(level)
    for name in names:
        logging.getLogger(name).setLevel(levels[name])


class Log:
    """The lines that were logged since `setup_logging`."""

    def __init__(self, config):
        self._stream = io.StringIO()
        setup_logging(config, self._stream)
        (handler,) = logging.getLogger().handlers
        self.formatter = handler.formatter

    def text(self):
        return self._stream.getvalue()

    def entries(self):
        return [json.loads(line, parse_constant=refuse) for line in self.text().split("\n")[:-1]]

    def only(self):
        (entry,) = self.entries()
        return entry


def refuse(constant):
    raise ValueError(constant)


@pytest.fixture
def log():
    return Log(CONFIG)


@pytest.fixture
def logger():
    return logging.getLogger("userservice.example")


def test_an_entry_has_the_fields_that_dashboards_rely_on(log, logger):
    before = datetime.now(UTC)
    logger.info("User %s", "created")

    entry = log.only()
    moment = datetime.fromisoformat(entry.pop("timestamp"))
    assert before - timedelta(milliseconds=1) <= moment <= datetime.now(UTC)
    assert entry.pop("line") > 0
    assert entry == {
        "level": "INFO",
        "logger": "userservice.example",
        "message": "User created",
        "module": "test_observability",
        "function": "test_an_entry_has_the_fields_that_dashboards_rely_on",
        "app_version": "1.2.3",
        "build_id": "abc",
        "environment": "staging",
        "service_name": "cloudnative-user-api",
        "service_version": "1.2.3",
        "trace_id": "0" * 32,
        "span_id": "0" * 16,
        "trace_flags": "00",
    }


def test_a_timestamp_is_in_utc_with_milliseconds(log):
    record = logging.makeLogRecord({"created": 1_700_000_000.5, "msecs": 500.0})

    line = log.formatter.format(record)

    assert json.loads(line)["timestamp"] == "2023-11-14T22:13:20.500Z"


def test_an_entry_inside_a_span_names_it(log, logger):
    flags = trace.TraceFlags(trace.TraceFlags.SAMPLED)
    span = trace.SpanContext(0xABC, 0xDEF, is_remote=False, trace_flags=flags)

    with trace.use_span(trace.NonRecordingSpan(span)):
        logger.info("inside")

    assert log.only()["trace_id"] == f"{0xABC:032x}"
    assert log.only()["span_id"] == f"{0xDEF:016x}"
    assert log.only()["trace_flags"] == "01"


def test_what_the_caller_adds_becomes_fields_of_their_own_type(log, logger):
    logger.info("x", extra={"user_id": "1", "count": 2, "ratio": 0.5, "none": None, "list": [1]})

    entry = log.only()
    assert [entry[name] for name in ("user_id", "count", "ratio", "none", "list")] == [
        "1",
        2,
        0.5,
        None,
        [1],
    ]


@pytest.mark.parametrize("name", ["level", "timestamp", "trace_id", "environment", "logger"])
def test_what_the_caller_adds_cannot_replace_what_the_entry_says(log, logger, name):
    logger.info("x", extra={name: "forged"})

    assert log.only()[name] != "forged"


@pytest.mark.parametrize(
    "value",
    [{(1, 2): 3}, {1, 2}, b"\xff", object(), datetime.now(UTC)],
    ids=lambda value: type(value).__name__,
)
def test_a_value_that_json_does_not_know_is_written_as_text(log, logger, value):
    logger.info("x", extra={"value": value})

    assert log.only()["value"] == str(value)
    assert log.only()["message"] == "x"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_json_does_not_have_is_written_in_a_way_it_has(log, logger, value):
    logger.info("x", extra={"value": value})

    assert log.only()["value"] in {"NaN", "Infinity"}


def test_of_an_object_only_its_text_shows(log, logger):
    logger.info("x", extra={"config": AppConfig(api_key="hidden-key-1843")})

    assert "hidden-key-1843" not in log.text()
    assert "AppConfig" in log.only()["config"]


def test_a_value_that_contains_itself_loses_no_entry(log, logger):
    circle: list[object] = []
    circle.append(circle)

    logger.info("x", extra={"circle": circle})

    assert log.only()["circle"] == "[[...]]"


def test_an_exception_travels_in_its_own_field_on_the_same_line(log, logger):
    try:
        dict[str, str]()["first\nsecond"]
    except KeyError:
        logger.exception("failed")

    entry = log.only()
    assert entry["level"] == "ERROR"
    assert entry["exception"].startswith("Traceback (most recent call last):\n")
    assert "KeyError" in entry["exception"]
    assert log.text().count("\n") == 1


def test_an_entry_without_an_exception_has_no_field_for_it(log, logger):
    logger.error("failed", exc_info=None)

    assert "exception" not in log.only()


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_cannot_forge_a_line_or_a_field(log, logger, text):
    logger.warning("said %s", text, extra={"given": text})

    entry = log.only()
    assert entry["message"] == f"said {text}"
    assert entry["given"] == text
    assert entry["level"] == "WARNING"
    assert "forged" not in entry
    assert log.text().rstrip("\n").isprintable()


def test_half_a_character_is_written_escaped(log):
    # Not logged: pytest would keep it for its report, which it then could not write.
    line = log.formatter.format(logging.makeLogRecord({"msg": "\ud800"}))

    assert line.isascii()
    assert json.loads(line)["message"] == "\ud800"


@given(st.text(), st.dictionaries(st.text(), st.none() | st.text() | st.integers() | st.floats()))
def test_whatever_is_logged_is_one_line_of_json(text, values):
    log = Log(CONFIG)

    logging.getLogger("any").error("%s", text, extra={"values": values})

    assert log.only()["message"] == text
    assert len(log.text().splitlines()) == 1


def test_a_format_for_people_has_no_json(logger):
    log = Log(AppConfig(log_format="text"))

    logger.warning("Something %s", "happened", extra={"user_id": "1"})

    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} - userservice\.example - WARNING"
        r" - Something happened user_id=1\n",
        log.text(),
    )


def test_levels_below_the_configured_one_are_not_logged(logger):
    log = Log(AppConfig(log_level="warning"))

    logger.info("quiet")
    logger.warning("loud")

    assert [each["message"] for each in log.entries()] == ["loud"]


def test_setting_up_again_replaces_what_was_set_up_before(logger):
    first = Log(CONFIG)
    second = Log(CONFIG)

    logger.info("once")

    assert first.text() == ""
    assert len(second.entries()) == 1


def test_warnings_are_logged_like_everything_else(log):
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=False)
        logging.captureWarnings(capture=True)

        warnings.warn("old\nnews", DeprecationWarning, stacklevel=1)

    assert log.only()["logger"] == "py.warnings"
    assert "old\nnews" in log.only()["message"]


@pytest.mark.parametrize("name", ["alembic.runtime.migration", "redis", "urllib3.connectionpool"])
def test_libraries_that_talk_much_are_heard_from_warnings_on(log, name):
    logging.getLogger(name).info("chatter")
    logging.getLogger(name).warning("trouble")

    assert [each["message"] for each in log.entries()] == ["trouble"]


@pytest.mark.parametrize(("broken", "other"), [("traces", "metrics"), ("metrics", "traces")])
def test_a_part_of_telemetry_that_cannot_be_set_up_stops_neither_the_other_nor_the_service(
    monkeypatch, broken, other
):
    log = Log(CONFIG)
    made = []

    def make(signal, service_name):
        if signal == broken:
            raise OSError("no such certificate")
        made.append(signal)
        return make_exporter(signal, service_name)

    monkeypatch.setattr("observability.make_exporter", make)
    monkeypatch.setattr("observability.trace.set_tracer_provider", lambda _provider: None)
    with run_collector() as collector:
        for name, value in collector.variables.items():
            monkeypatch.setenv(name, value)
        telemetry = Telemetry(CONFIG)
        telemetry.close()

    (line,) = [each for each in log.entries() if each["level"] == "ERROR"]
    assert line["message"] == "Telemetry is not exported"
    assert "no such certificate" in line["exception"]
    assert made == [other]
    assert (telemetry.provider is None) is (broken == "traces")
