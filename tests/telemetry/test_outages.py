from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from chassis.telemetry.outages import Outage

THREADS = 16


@pytest.fixture
def outage(caplog):
    caplog.set_level(logging.INFO)
    return Outage(logging.getLogger("test.outages"), away="It is away", back="It is back")


def said(caplog):
    return [(each.levelname, each.message) for each in caplog.records]


def test_an_outage_is_said_once_at_its_beginning_and_once_at_its_end(outage, caplog):
    for _ in range(2):
        for _ in range(3):
            outage.begin(error_type="ConnectionError")
        for _ in range(3):
            outage.end()

    assert said(caplog) == [("WARNING", "It is away"), ("INFO", "It is back")] * 2
    assert caplog.records[0].name == "test.outages"
    assert caplog.records[0].error_type == "ConnectionError"


def test_where_nothing_was_away_nothing_is_said_to_be_back(outage, caplog):
    outage.end()

    assert said(caplog) == []


def test_threads_that_notice_together_say_it_once(outage, caplog):
    barrier = threading.Barrier(THREADS)

    def notice(note):
        barrier.wait(30)
        note()

    with ThreadPoolExecutor(THREADS) as threads:
        for note in (outage.begin, outage.end):
            list(threads.map(notice, [note] * THREADS))

    assert said(caplog) == [("WARNING", "It is away"), ("INFO", "It is back")]
