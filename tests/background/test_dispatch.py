"""The queue of ids, as one process sees it."""

from __future__ import annotations

import logging
import socket
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
import redis as redis_library

from chassis.background import outbox
from chassis.background.delivery import Delivery
from chassis.background.dispatch import (
    MAX_AHEAD,
    OUTAGE_SECONDS,
    QUEUE,
    DramatiqDispatcher,
    LocalDispatcher,
)
from chassis.background.outbox import Message
from chassis.errors import Unavailable
from chassis.storage.ids import uuid7
from tests.support.ports import HOST, free_port
from tests.support.servers import ValkeyServer
from tests.support.waiting import ANSWER_SECONDS, DEADLINE_SECONDS, eventually

DAY = timedelta(days=1)
NOW = datetime(2030, 1, 1, tzinfo=UTC)


def message():
    return Message(uuid7(), "test.happened", {}, {}, 1, NOW, NOW + DAY, NOW)


@contextmanager
def running(url, work, load, *, threads=2):
    dispatcher = DramatiqDispatcher(url, threads)
    dispatcher.start(work, load)
    try:
        yield dispatcher
    finally:
        dispatcher.stop()
        await_end()


def await_end():
    """Wait until the library's threads have gone, which it does not do itself."""
    eventually(
        lambda: not [each for each in threading.enumerate() if "dramatiq" in type(each).__module__]
    )


@pytest.fixture(autouse=True)
def impatience(monkeypatch):
    """Let the library try again soon when its queue is away."""
    for name in ("CONSUMER_RESTART_DELAY_SECS", "POST_PROCESS_MESSAGE_RETRY_DELAY_SECS"):
        monkeypatch.setattr(f"dramatiq.worker.{name}", 0.05)


@pytest.fixture
def queue(redis):
    """A client of the server that the dispatcher uses, which is empty."""
    yield redis
    redis.flushdb()


@pytest.fixture
def clock(monkeypatch):
    """The monotonic clock as the dispatcher sees it: set it."""
    now = [1000.0]
    monkeypatch.setattr(
        "chassis.background.dispatch.time", SimpleNamespace(monotonic=lambda: now[0])
    )
    return now


@pytest.mark.integration
@pytest.mark.usefixtures("queue")
def test_an_id_is_loaded_and_worked_on_by_whoever_takes_it(redis_url):
    sent = message()
    worked_on: list[Message] = []

    with running(redis_url, worked_on.append, lambda *_claim: sent) as dispatcher:
        is_here = dispatcher.submit(sent)
        eventually(lambda: worked_on)

    assert is_here is False
    assert worked_on == [sent]


@pytest.mark.integration
@pytest.mark.usefixtures("queue")
def test_a_claim_that_no_longer_holds_is_not_worked_on(redis_url):
    asked = []
    worked_on: list[Message] = []

    def load(message_id, attempts):
        asked.append((message_id, attempts))

    late = message()
    with running(redis_url, worked_on.append, load) as dispatcher:
        dispatcher.submit(late)
        eventually(lambda: asked)

    assert asked == [(late.id, 1)]
    assert worked_on == []


@pytest.mark.integration
def test_an_id_whose_message_cannot_be_read_is_left_to_the_end_of_its_claim(
    redis_url, queue, caplog
):
    asked = []

    def load(message_id, _attempts):
        asked.append(message_id)
        raise Unavailable

    with running(redis_url, lambda _message: None, load) as dispatcher:
        dispatcher.submit(message())
        eventually(lambda: asked)
        eventually(lambda: not queue.exists(f"dramatiq:{QUEUE}.msgs"))

    assert [each for each in caplog.records if each.levelno >= logging.ERROR] == []


def test_a_process_takes_few_messages_ahead_however_quickly_it_works():
    dispatcher = LocalDispatcher(2)
    dispatcher.start(lambda _message: None, lambda *_claim: None)
    for _ in range(1000):
        dispatcher.submit(message())

    assert dispatcher.room(0) == 2 * (1 + MAX_AHEAD)
    dispatcher.stop()


@pytest.mark.integration
def test_a_message_is_worked_on_here_when_the_queue_dies_before_it_is_put_there():
    sent = message()
    worked_on: list[Message] = []

    with (
        ValkeyServer() as server,
        running(server.url, worked_on.append, lambda *_claim: None) as dispatcher,
    ):
        room = dispatcher.room(0)
        server.stop(immediate=True)
        is_here = dispatcher.submit(sent)
        eventually(lambda: worked_on)

    assert (room, is_here, worked_on) == (4, True, [sent])


def test_a_queue_that_hangs_is_away():
    silent = socket.create_server((HOST, 0))
    url = f"redis://{HOST}:{silent.getsockname()[1]}"

    with running(url, lambda _message: None, lambda *_claim: None) as dispatcher, silent:
        begin = time.monotonic()
        room = dispatcher.room(0)
        waited = time.monotonic() - begin

    assert room == 2
    assert waited < ANSWER_SECONDS


@pytest.mark.integration
def test_there_is_room_for_few_ids_that_wait(redis_url, queue):
    leave = threading.Event()

    with running(
        redis_url, lambda _: leave.wait(DEADLINE_SECONDS), lambda *_: message(), threads=1
    ) as dispatcher:
        empty = dispatcher.room(0)
        for _ in range(5):
            dispatcher.submit(message())
        # One is worked on, and one is taken for when that is done.
        eventually(lambda: queue.llen(f"dramatiq:{QUEUE}") == 3)
        full = dispatcher.room(0)
        leave.set()

    assert empty == 2
    assert full < 0


def test_without_the_queue_a_process_works_on_what_it_claims_and_says_so_once(clock, caplog):
    sent = message()
    worked_on: list[Message] = []
    nowhere = f"redis://{HOST}:{free_port()}"

    with running(nowhere, worked_on.append, lambda *_claim: None) as dispatcher:
        rooms = [dispatcher.room(in_works) for in_works in (0, 1, 2)]
        clock[0] += OUTAGE_SECONDS + 1
        rooms.append(dispatcher.room(0))
        is_here = dispatcher.submit(sent)
        eventually(lambda: worked_on)

    ours = [each.message for each in caplog.records if each.name == "chassis.background.dispatch"]
    assert rooms == [2, 1, 0, 2]
    assert is_here is True
    assert worked_on == [sent]
    assert ours == ["The queue is away; each worker works on what it claims"]


@pytest.mark.integration
def test_a_queue_that_comes_back_is_used_again(clock):
    with ValkeyServer() as server, running(server.url, print, lambda *_claim: None) as dispatcher:
        server.stop(immediate=True)
        while_away = dispatcher.room(0)
        server.start()
        soon_after = dispatcher.room(0)
        clock[0] += OUTAGE_SECONDS + 1
        later = dispatcher.room(0)

    assert (while_away, soon_after, later) == (2, 2, 4)


@pytest.mark.integration
def test_ids_that_a_process_took_and_did_not_begin_go_to_another_when_it_stops(redis_url, queue):
    begun, leave = threading.Event(), threading.Event()
    worked_on: list[Message] = []

    def hold(_message):
        begun.set()
        leave.wait(DEADLINE_SECONDS)

    with running(redis_url, hold, lambda *_claim: message(), threads=1) as stopping:
        for _ in range(2):
            stopping.submit(message())
        assert begun.wait(DEADLINE_SECONDS)
        eventually(lambda: not queue.llen(f"dramatiq:{QUEUE}"))
        stopping.stop()
        with running(redis_url, worked_on.append, lambda *_claim: message()):
            eventually(lambda: worked_on)
            leave.set()

    assert len(worked_on) == 1


@pytest.mark.integration
@pytest.mark.usefixtures("queue")
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_stop_hands_back_what_was_taken_from_the_queue_and_does_not_finish(services, redis_url):
    begun, leave = threading.Event(), threading.Event()

    def handler(_services, _message):
        begun.set()
        return leave.wait(DEADLINE_SECONDS)

    row = outbox.new_message("test.happened", {})
    with services.database.transaction() as connection:
        connection.execute(outbox.INSERT, row)
    delivery = Delivery(
        services, {"test.happened": handler}, dispatcher=DramatiqDispatcher(redis_url, 1), lease=DAY
    )
    loop = threading.Thread(target=delivery.run)
    loop.start()
    assert begun.wait(DEADLINE_SECONDS)

    delivery.stop()
    loop.join()
    handed_back = delivery.close(0.1)
    leave.set()
    await_end()
    with services.database.connection() as connection:
        waiting = outbox.claim(connection, now=datetime.now(UTC), limit=9, lease=DAY)

    assert handed_back == 1
    assert [(each.id, each.attempts) for each in waiting] == [(row["message_id"], 1)]


@pytest.mark.integration
def test_an_engine_whose_queue_is_away_stops_all_the_same():
    begun, leave = threading.Semaphore(0), threading.Event()

    def work(_message):
        begun.release()
        leave.wait(DEADLINE_SECONDS)

    with ValkeyServer() as server:
        client = redis_library.Redis.from_url(server.url)
        dispatcher = DramatiqDispatcher(server.url, 1)
        dispatcher.start(work, lambda *_claim: message())
        for _ in range(2):
            dispatcher.submit(message())
        assert begun.acquire(timeout=DEADLINE_SECONDS)
        eventually(lambda: not client.llen(f"dramatiq:{QUEUE}"))  # the second was taken as well
        client.close()
        server.stop(immediate=True)

        dispatcher.stop()
        leave.set()
        server.start()
        await_end()

    assert not begun.acquire(blocking=False)
