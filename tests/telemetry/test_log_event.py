"""A log event writes the line that the logger itself would have written."""

from __future__ import annotations

import io
import json
import logging
import time

import pytest

from chassis.telemetry.log_event import LogEvent
from config import AppConfig
from observability import setup_logging

logger = logging.getLogger("tests.log_event")
# A record's moments, of which a test compares the sizes alone.
TIMES = {"created", "msecs", "relativeCreated"}


@pytest.fixture(params=["json", "text"])
def log_format(request):
    return request.param


@pytest.fixture(autouse=True)
def lines(log_format, monkeypatch):
    """Set logging up as a process does; a call returns the lines that were written."""
    root = logging.getLogger()
    for name in ("logThreads", "logProcesses", "logMultiprocessing"):
        monkeypatch.setattr(logging, name, True)  # back at the end
    before = (root.handlers[:], root.level)
    stream = io.StringIO()
    setup_logging(AppConfig(log_format=log_format, redis_url=""), stream)
    yield lambda: stream.getvalue().splitlines()
    root.handlers[:], level = before
    root.setLevel(level)
    logging.captureWarnings(capture=False)


class Kept(logging.Handler):
    """Keeps the fields of records."""

    def __init__(self):
        super().__init__()
        self.records = []

    def emit(self, record):
        self.records.append(dict(vars(record)))


@pytest.fixture
def kept():
    handler = Kept()
    logger.addHandler(handler)
    yield handler.records
    logger.removeHandler(handler)


def write(event, **fields):
    """Write the same line both ways, from the same line of code."""
    ways = (lambda: logger.info("It happened", extra=fields), lambda: event.info(**fields))
    for way in ways:
        way()


def test_a_line_is_the_same_at_first_and_ever_after(lines, kept):
    event = LogEvent(logger, "It happened")

    for number in range(3):
        write(event, number=number, text="a\nb")

    untimed = [{k: v for k, v in each.items() if k not in TIMES} for each in kept]
    assert untimed[::2] == untimed[1::2]
    assert [each["number"] for each in untimed] == [0, 0, 1, 1, 2, 2]
    written = lines()
    assert len(written) == 6
    assert {each["funcName"] for each in kept} == {"<lambda>"}
    if written[0].startswith("{"):
        entries = [json.loads(each) | {"timestamp": ""} for each in written]
        assert entries[::2] == entries[1::2]
        assert entries[0]["module"] == "test_log_event"


def test_a_record_knows_its_time(kept):
    event = LogEvent(logger, "It happened")
    event.info()
    began = time.time()

    write(event)

    plain, own = kept[1:]
    assert began <= own["created"] <= time.time()
    assert own["msecs"] == int(own["created"] % 1 * 1000)
    # The two were written within the same second, whose start all three agree on.
    for name, unit in (("created", 1), ("relativeCreated", 1000)):
        assert 0 <= own[name] - plain[name] < unit


def test_fields_do_not_stay_for_the_next_line(kept):
    event = LogEvent(logger, "It happened")

    event.info(a=1)
    event.info(b=2)

    assert "a" not in kept[1]
    assert kept[1]["b"] == 2


def test_what_the_level_leaves_out_is_not_made(kept, lines):
    logging.getLogger().setLevel(logging.WARNING)

    LogEvent(logger, "It happened").info()

    assert kept == []
    assert lines() == []


def test_where_records_name_their_thread_they_go_on_to(kept, monkeypatch):
    monkeypatch.setattr(logging, "logThreads", True)

    write(LogEvent(logger, "It happened"))

    plain, own = kept
    assert own["threadName"] == plain["threadName"] == "MainThread"
    assert (own["lineno"], own["funcName"]) == (plain["lineno"], "<lambda>")
