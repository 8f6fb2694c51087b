"""Reading for many messages at once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import cast

import pytest

from chassis.background import read_ahead
from chassis.background.outbox import Message
from chassis.background.read_ahead import FRESH_SECONDS, ReadAhead, fresh
from chassis.backing_services import BackingServices
from chassis.errors import Unavailable
from chassis.storage.ids import uuid7
from tests.background.test_delivery import delivering, enqueue, statuses
from tests.support.waiting import eventually

NOW = datetime(2030, 1, 1, tzinfo=UTC)
TOPIC, OTHER = "test.happened", "test.other"
NOBODY = cast("BackingServices", None)  # no reader here asks for anything


def message(topic=TOPIC):
    return Message(uuid7(), topic, {}, {}, 1, NOW, NOW + timedelta(days=1), NOW)


def numbered(_services, messages):
    return {each.id: number for number, each in enumerate(messages, start=1)}


@pytest.fixture
def clock(monkeypatch):
    """The monotonic clock as reading ahead sees it: set it."""
    now = [1000.0]
    monkeypatch.setattr(read_ahead, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def test_each_message_is_given_what_its_reader_found_and_keeps_its_place():
    messages = [message(), message(OTHER), message(), message(OTHER)]

    known = ReadAhead(NOBODY, {TOPIC: numbered}).read(messages)

    assert [each.id for each in known] == [each.id for each in messages]
    assert [each.known for each in known] == [1, None, 2, None]


def test_a_message_that_comes_alone_is_left_to_its_handler():
    assert ReadAhead(NOBODY, {TOPIC: numbered}).read([message()])[0].known is None


@pytest.mark.parametrize(("error", "lines"), [(Unavailable(), 0), (KeyError("user_id"), 1)])
def test_a_reader_that_fails_leaves_the_reading_to_the_handlers(error, lines, caplog):
    def fail(_services, _messages):
        raise error

    messages = [message(), message()]

    assert ReadAhead(NOBODY, {TOPIC: fail}).read(messages) == messages
    assert len(caplog.records) == lines


def test_what_was_read_long_ago_is_not_given_to_a_handler(clock):
    first, _ = ReadAhead(NOBODY, {TOPIC: numbered}).read([message(), message()])

    clock[0] += FRESH_SECONDS / 2
    early = fresh(first)
    clock[0] += FRESH_SECONDS
    late = fresh(first)

    assert early.known == 1
    assert late.known is None
    assert late.id == first.id


def test_handlers_find_what_was_read_for_a_claim(services):
    found = []
    enqueue(services.database, 5)

    def handler(_services, message):
        found.append(message.known)
        return True

    with delivering(services, handler, readers={TOPIC: numbered}):
        eventually(lambda: statuses(services.database) == {"sent"})

    assert sorted(found) == [1, 2, 3, 4, 5]
