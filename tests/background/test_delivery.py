from __future__ import annotations

import logging
import threading
import time
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from opentelemetry import trace
from prometheus_client import REGISTRY
from sqlalchemy import select, update

from bootstrap import make_mailer, open_backing_services
from chassis.background import outbox, upkeep
from chassis.background.delivery import Delivery
from chassis.background.dispatch import LocalDispatcher
from chassis.background.outbox import MessageStatus, messages
from chassis.clients.resilience import AskedToWait, BreakerOpen, CircuitBreaker
from chassis.errors import Unavailable, Undeliverable
from chassis.storage import migrations
from chassis.storage.database import DatabaseManager, with_driver
from tests.support.factories import make_user
from tests.support.faults import FaultProxy, Mode
from tests.support.waiting import DEADLINE_SECONDS, eventually
from userservice.resources import EVENT_HANDLERS

TOPIC = "test.happened"
LEASE = timedelta(seconds=15)
DAY = timedelta(days=1)


@contextmanager
def delivering(services, handlers, *, concurrency=16, finish=DEADLINE_SECONDS, **options):
    """Deliver in a thread until the block ends; one handler alone is for TOPIC."""
    handlers = handlers if isinstance(handlers, dict) else {TOPIC: handlers}
    options.setdefault("dispatcher", LocalDispatcher(concurrency))
    options.setdefault("lease", LEASE)
    delivery = Delivery(services, handlers, **options)
    thread = threading.Thread(target=delivery.run)
    thread.start()
    try:
        yield delivery
    finally:
        delivery.stop()
        thread.join(DEADLINE_SECONDS)
        delivery.close(finish)
    assert not thread.is_alive()


def enqueue(database, number=1, *, topic=TOPIC, **values):
    """Queue messages; `values` overwrite their columns."""
    rows = [outbox.new_message(topic, {"number": each}) for each in range(number)]
    with database.transaction() as connection:
        connection.execute(outbox.INSERT, rows)
        if values:
            connection.execute(update(messages).values(**values))
    return [row["message_id"] for row in rows]


def stored(database, **values):
    """Return the messages that have these values, oldest first."""
    statement = select(messages).order_by(messages.c.id).filter_by(**values)
    with database.connection() as connection:
        return connection.execute(statement).all()


def statuses(database):
    return {row.status for row in stored(database)}


def succeed(_services, _message):
    return True


def refuse(_services, _message):
    raise Unavailable("The e-mail service answered 503")


def test_delivery_begins_well_under_a_second_after_the_commit(services):
    begun_at = []

    def handler(_services, _message):
        begun_at.append(time.monotonic())
        return True

    delays = []
    with delivering(services, handler):
        for _ in range(5):
            enqueue(services.database)
            committed_at = time.monotonic()
            eventually(lambda: begun_at)
            delays.append(begun_at.pop() - committed_at)

    assert min(delays) < 0.9  # a busy machine adds to most of them


def test_what_a_handler_did_is_stored(services):
    enqueue(services.database)

    with delivering(services, succeed):
        eventually(lambda: statuses(services.database) == {"sent"})


def test_a_message_for_which_there_was_nothing_to_do_is_skipped(services):
    enqueue(services.database)

    with delivering(services, lambda _services, _message: False):
        eventually(lambda: statuses(services.database) == {"skipped"})


def test_a_registration_ends_in_an_email(services, config, provider):
    settings = replace(config, email_service_url=provider.url)
    mailing = replace(services, mailer=make_mailer(settings))
    user = make_user(services.database)

    with closing(mailing.mailer), delivering(mailing, EVENT_HANDLERS):
        eventually(lambda: statuses(services.database) == {"sent"})

    assert [mail.to for mail in provider.taken] == [user.email]
    assert provider.taken[0].key == str(stored(services.database)[0].id)


@pytest.mark.integration
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_thousand_waiting_messages_are_delivered_concurrently(postgresql_url, config, provider):
    settings = replace(config, database_url=postgresql_url, email_service_url=provider.url)
    services = open_backing_services(settings)
    user = make_user(services.database)
    payload = {"user_id": str(user.id)}
    rows = [outbox.new_message("user.registered", payload) for _ in range(999)]
    with services.database.transaction() as connection:
        connection.execute(outbox.INSERT, rows)
    provider.delay_seconds = 0.05

    with delivering(services, EVENT_HANDLERS):
        eventually(lambda: len(provider.taken) >= 1000)
    services.close()

    assert provider.most_at_once == 16
    assert len({mail.key for mail in provider.taken}) == 1000


@pytest.mark.parametrize("attempts", [0, 1, 2, 3, 8, 20])
def test_a_failed_message_waits_twice_as_long_each_time_up_to_five_minutes(services, attempts):
    tried = threading.Event()

    def refuse_once(*given):
        delivery.stop()
        tried.set()
        refuse(*given)

    with delivering(services, refuse_once) as delivery:
        began_at = datetime.now(UTC)
        enqueue(services.database, attempts=attempts)
        assert tried.wait(DEADLINE_SECONDS)
    ended_at = datetime.now(UTC)

    (row,) = stored(services.database)
    span = min(timedelta(minutes=5), timedelta(seconds=2**attempts))
    assert (row.status, row.attempts) == (MessageStatus.QUEUED, attempts + 1)
    assert row.last_error == "The e-mail service answered 503"
    assert began_at + 0.8 * span <= row.due_at <= ended_at + 1.2 * span


def test_a_message_that_failed_for_a_day_is_abandoned_and_says_so(services, caplog):
    enqueue(services.database, expires_at=datetime.now(UTC) + timedelta(seconds=0.5), attempts=9)

    with delivering(services, refuse):
        eventually(lambda: statuses(services.database) == {"abandoned"})

    (row,) = stored(services.database)
    (record,) = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert (row.attempts, row.last_error) == (10, "The e-mail service answered 503")
    assert record.message == "Message abandoned"


def test_who_keeps_account_of_a_message_is_told_before_it_is_given_up(services):
    told = []

    def note(_services, message, reason):
        told.append((message.id, reason, statuses(services.database)))

    (message_id,) = enqueue(services.database, expires_at=datetime.now(UTC))
    with delivering(services, refuse, abandoned={TOPIC: note}):
        eventually(lambda: statuses(services.database) == {"abandoned"})

    assert told == [(message_id, "The e-mail service answered 503", {"queued"})]


def test_a_message_is_not_given_up_while_nobody_can_be_told(services):
    told = []

    def note(_services, message, _reason):
        told.append(message.id)
        raise Unavailable

    enqueue(services.database, expires_at=datetime.now(UTC))
    with delivering(services, refuse, abandoned={TOPIC: note}):
        eventually(lambda: stored(services.database)[0].last_error)

    (row,) = stored(services.database)
    assert told == [row.id]
    assert (row.status, row.attempts) == ("queued", 1)


def test_a_message_that_succeeds_on_its_last_day_is_sent(services):
    enqueue(services.database, expires_at=datetime.now(UTC))

    with delivering(services, succeed):
        eventually(lambda: statuses(services.database) == {"sent"})


def test_a_requeued_message_is_delivered(services):
    enqueue(services.database, status="abandoned", expires_at=datetime.now(UTC))

    with delivering(services, succeed):
        with services.database.connection() as connection:
            upkeep.requeue(connection, None, now=datetime.now(UTC))
        eventually(lambda: statuses(services.database) == {"sent"})


def test_an_open_breaker_costs_messages_no_attempt(services):
    breaker = CircuitBreaker("test", failures=1)
    asked = []

    def handler(_services, message):
        with breaker.call():
            asked.append(message.id)
            raise Unavailable

    with delivering(services, handler, concurrency=1):
        enqueue(services.database)
        eventually(lambda: asked)
        enqueue(services.database, 20)
        eventually(lambda: are_put_off(services.database))

    assert len(asked) == 1
    assert [row.attempts for row in stored(services.database)] == [1] + [0] * 20


def are_put_off(database):
    return all(row.due_at > datetime.now(UTC) for row in stored(database)) and not any(
        row.attempts for row in stored(database)[1:]
    )


def test_a_message_about_which_nothing_can_be_done_is_skipped_with_the_reason(services, caplog):
    def handler(_services, _message):
        raise Undeliverable("x" * 300)

    enqueue(services.database)
    with delivering(services, handler, abandoned={TOPIC: pytest.fail}):
        eventually(lambda: statuses(services.database) == {"skipped"})

    (row,) = stored(services.database)
    assert (row.attempts, row.last_error) == (1, "x" * outbox.ERROR_LENGTH)
    assert [each.levelname for each in caplog.records if each.message == "Message skipped"] == [
        "WARNING"
    ]
    assert "Message handler broke" not in caplog.messages


def test_messages_wait_until_an_open_breaker_tries_again(services):
    due_in = timedelta(seconds=40)

    def handler(_services, _message):
        raise BreakerOpen(retry_after=due_in)

    enqueue(services.database)
    before = datetime.now(UTC)
    with delivering(services, handler):
        eventually(lambda: stored(services.database)[0].due_at > before + 2 * LEASE)
        after = datetime.now(UTC)

    (row,) = stored(services.database)
    assert before + due_in <= row.due_at <= after + due_in
    assert row.attempts == 0


def test_a_message_is_due_when_its_dependency_wants_to_be_called_again(services):
    asked_for = timedelta(minutes=30)

    def handler(_services, _message):
        raise AskedToWait("The e-mail service answered 429", retry_after=asked_for)

    enqueue(services.database)
    before = datetime.now(UTC)
    with delivering(services, handler):
        eventually(lambda: stored(services.database)[0].last_error)
        after = datetime.now(UTC)

    (row,) = stored(services.database)
    assert before + asked_for <= row.due_at <= after + asked_for
    assert (row.attempts, row.last_error) == (1, "The e-mail service answered 429")


def test_a_wait_beyond_its_last_day_leaves_a_message_one_more_try(services):
    def handler(_services, _message):
        raise AskedToWait(retry_after=timedelta(days=1))

    expires_at = datetime.now(UTC) + timedelta(hours=1)
    enqueue(services.database, expires_at=expires_at)
    with delivering(services, handler):
        eventually(lambda: stored(services.database)[0].last_error)

    (row,) = stored(services.database)
    assert (row.status, row.due_at) == (MessageStatus.QUEUED, expires_at)


def test_one_answer_of_a_provider_puts_all_its_emails_off(services, config, provider):
    settings = replace(config, email_service_url=provider.url)
    mailing = replace(services, mailer=make_mailer(settings))
    for _ in range(20):
        make_user(services.database)
    provider.answer, provider.retry_after = 429, "1800"
    before = datetime.now(UTC)

    def are_all_put_off():
        due = [row.due_at for row in stored(services.database)]
        return min(due) > before + timedelta(minutes=29)

    with closing(mailing.mailer), delivering(mailing, EVENT_HANDLERS, concurrency=1):
        eventually(are_all_put_off)

    assert len(provider.attempts) == 1
    assert sorted(row.attempts for row in stored(services.database)) == [0] * 19 + [1]


def test_a_handler_that_breaks_fails_its_message_and_no_other(services, caplog):
    def handler(_services, message):
        if message.payload["number"] == 0:
            raise ZeroDivisionError
        return True

    enqueue(services.database, 4)
    with delivering(services, handler):
        eventually(lambda: len(stored(services.database, status="sent")) == 3)
        eventually(lambda: stored(services.database, last_error="ZeroDivisionError"))

    (broken,) = stored(services.database, status="queued")
    assert broken.payload == {"number": 0}
    assert "Message handler broke" in caplog.messages


def test_a_reason_is_stored_as_far_as_there_is_room(services):
    def handler(_services, _message):
        raise Unavailable("because " * 100)

    enqueue(services.database)
    with delivering(services, handler):
        eventually(lambda: [row for row in stored(services.database) if row.last_error])

    (row,) = stored(services.database)
    assert row.last_error == ("because " * 100)[: outbox.ERROR_LENGTH]


def count_attempts(result):
    labels = {"topic": TOPIC, "result": result}
    return REGISTRY.get_sample_value("outbox_delivery_duration_seconds_count", labels) or 0


@pytest.mark.parametrize(
    ("handler", "expires_in", "result"),
    [
        (succeed, DAY, "sent"),
        (lambda _services, _message: False, DAY, "skipped"),
        (refuse, DAY, "queued"),
        (refuse, timedelta(0), "abandoned"),
    ],
    ids=["sent", "skipped", "failed", "abandoned"],
)
def test_an_attempt_is_counted_under_its_result(services, handler, expires_in, result):
    results = ("sent", "skipped", "queued", "abandoned")
    before = {each: count_attempts(each) for each in results}

    enqueue(services.database, expires_at=datetime.now(UTC) + expires_in)
    with delivering(services, handler):
        eventually(lambda: {each: count_attempts(each) for each in results} != before)

    counted = {each: count_attempts(each) - before[each] for each in results}
    assert counted == {each: int(each == result) for each in results}


def test_the_age_of_the_oldest_message_is_measured(services):
    def age():
        return REGISTRY.get_sample_value("outbox_oldest_message_age_seconds") or 0.0

    hour = timedelta(hours=1)
    now = datetime.now(UTC)
    enqueue(services.database, due_at=now + hour, expires_at=now + outbox.PATIENCE - hour)

    with delivering(services, succeed):
        eventually(lambda: age() >= hour.total_seconds())

    assert age() < hour.total_seconds() + DEADLINE_SECONDS


def looked_at():
    """Return the time at which the outbox was looked at last."""
    return REGISTRY.get_sample_value("outbox_measured_timestamp_seconds") or 0.0


def test_the_time_of_the_last_look_at_the_outbox_is_told(services):
    started_at = time.time()

    with delivering(services, succeed):
        eventually(lambda: looked_at() >= started_at)

    assert looked_at() <= time.time()


def test_a_message_that_nobody_handles_fails_and_the_others_are_delivered(services):
    (unknown,) = enqueue(services.database, topic="unheard.of")
    (known,) = enqueue(services.database)

    with delivering(services, succeed):
        eventually(lambda: {"sent"} <= statuses(services.database))
        eventually(lambda: stored(services.database)[0].last_error)

    rows = {row.id: row for row in stored(services.database)}
    assert rows[known].status == "sent"
    assert (rows[unknown].status, rows[unknown].attempts) == ("queued", 1)


def test_a_handler_works_in_the_trace_of_the_request(services, client):
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    seen = []

    def handler(_services, _message):
        seen.append(trace.get_current_span().get_span_context().trace_id)
        return True

    headers = {"traceparent": f"00-{trace_id}-00f067aa0ba902b7-01"}
    client.post("/users", json={"email": "ada@example.com", "name": "Ada"}, headers=headers)
    with delivering(services, {"user.registered": handler}):
        eventually(lambda: seen)

    assert trace.format_trace_id(seen[0]) == trace_id


def test_no_more_is_worked_on_at_a_time_than_there_are_threads(services):
    lock = threading.Lock()
    counts = {"now": 0, "most": 0}

    def handler(_services, _message):
        with lock:
            counts["now"] += 1
            counts["most"] = max(counts["most"], counts["now"])
        time.sleep(0.02)  # what a provider takes; nothing waits for it
        with lock:
            counts["now"] -= 1
        return True

    enqueue(services.database, 12)
    with delivering(services, handler, concurrency=3):
        eventually(lambda: statuses(services.database) == {"sent"})

    assert counts["most"] == 3


def test_a_stop_waits_for_what_is_in_flight(services):
    begun, leave = threading.Event(), threading.Event()

    def handler(_services, _message):
        begun.set()
        return leave.wait(DEADLINE_SECONDS)

    enqueue(services.database)
    with delivering(services, handler) as delivery:
        assert begun.wait(DEADLINE_SECONDS)
        delivery.stop()
        threading.Timer(0.3, leave.set).start()

    assert statuses(services.database) == {"sent"}


def test_a_stop_hands_back_what_does_not_finish_in_time(services):
    begun, leave = threading.Semaphore(0), threading.Event()

    def handler(_services, _message):
        begun.release()
        return leave.wait(DEADLINE_SECONDS)

    enqueue(services.database, 3)
    with delivering(services, handler, concurrency=2, finish=0.2):
        for _ in range(2):
            assert begun.acquire(timeout=DEADLINE_SECONDS)
    rows = stored(services.database)
    leave.set()

    assert {row.status for row in rows} == {"queued"}
    assert [row.attempts for row in rows] == [0, 0, 0]
    assert all(row.due_at <= datetime.now(UTC) for row in rows)


def test_a_stop_claims_nothing_more(services):
    delivery = Delivery(services, {TOPIC: succeed}, dispatcher=LocalDispatcher(4), lease=LEASE)
    enqueue(services.database)

    delivery.stop()
    delivery.run()
    left = delivery.close(5)

    assert left == 0
    assert [(row.status, row.attempts) for row in stored(services.database)] == [("queued", 0)]


class Ahead(LocalDispatcher):
    """Has one thread, takes some messages at once, and no others."""

    def __init__(self, number):
        super().__init__(1)
        self.number = number

    def room(self, _in_works):
        number, self.number = self.number, 0
        return number


def test_a_stop_does_not_wait_for_what_had_not_begun(services):
    enqueue(services.database, 60)
    begun = []

    def handler(_services, message):
        begun.append(message.id)
        if len(begun) == 3:
            delivery.stop()
        return True

    delivery = Delivery(services, {TOPIC: handler}, dispatcher=Ahead(60), lease=LEASE)
    delivery.run()
    delivery.close(DEADLINE_SECONDS)

    assert [row.id for row in stored(services.database, status="sent")] == begun
    assert len(begun) == 3
    assert {row.attempts for row in stored(services.database, status="queued")} == {0}


def test_a_message_whose_claim_ended_before_it_began_is_handed_back(services, monkeypatch):
    passed = [0.0]
    clock = SimpleNamespace(
        monotonic=lambda: time.monotonic() + passed[0],
        perf_counter=time.perf_counter,
        sleep=time.sleep,
    )
    monkeypatch.setattr("chassis.background.delivery.time", clock)
    tried = []

    def handler(_services, message):
        tried.append(message.id)
        passed[0] += LEASE.total_seconds()
        return True

    first, second = sorted(enqueue(services.database, 2))
    with delivering(services, handler, dispatcher=Ahead(2)):
        eventually(lambda: tried and not stored(services.database, status="queued", attempts=1))

    assert tried == [first]
    assert [row.id for row in stored(services.database, status="queued")] == [second]


@pytest.mark.integration
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_stop_without_the_database_leaves_messages_to_the_end_of_their_claims(services, away):
    proxy, database = away
    begun, leave = threading.Event(), threading.Event()

    def handler(_services, _message):
        begun.set()
        return leave.wait(DEADLINE_SECONDS)

    enqueue(services.database)
    far = replace(services, database=database)
    delivery = Delivery(far, {TOPIC: handler}, dispatcher=LocalDispatcher(1), lease=LEASE)
    thread = threading.Thread(target=delivery.run)
    thread.start()
    assert begun.wait(DEADLINE_SECONDS)
    with proxy.behaving(Mode.RESET):
        delivery.stop()
        thread.join(DEADLINE_SECONDS)
        handed_back = delivery.close(0.1)
        leave.set()

    assert handed_back == 0
    assert [row.attempts for row in stored(services.database, status="queued")] == [1]


def test_an_idle_delivery_stops_at_once(services):
    with delivering(services, succeed) as delivery:
        enqueue(services.database)
        eventually(lambda: statuses(services.database) == {"sent"})
        delivery.stop()
        assert delivery.close(3600) == 0


@pytest.fixture
def away(postgresql_url):
    """A proxy to the database, and the database through it."""
    url = with_driver(postgresql_url)
    assert url.port is not None
    proxy = FaultProxy(url.port)
    through = url.set(port=proxy.port).render_as_string(hide_password=False)
    database = DatabaseManager(through).initialize()
    yield proxy, database
    database.close()
    proxy.close()


@pytest.mark.integration
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_worker_that_never_reached_the_database_has_never_looked(services, away, caplog):
    proxy, database = away
    caplog.set_level("INFO", logger="chassis.background.delivery")

    with proxy.behaving(Mode.RESET), delivering(replace(services, database=database), succeed):
        eventually(lambda: "The database is away" in caplog.text)

    assert looked_at() == 0


@pytest.mark.integration
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_delivery_goes_on_when_the_database_is_back(postgresql_url, config, away, caplog):
    proxy, database = away
    near = DatabaseManager(postgresql_url).initialize()
    services = replace(
        open_backing_services(replace(config, database_url=postgresql_url)), database=database
    )
    caplog.set_level("INFO", logger="chassis.background.delivery")

    with delivering(services, succeed), proxy.behaving(Mode.RESET):
        eventually(lambda: "The database is away" in caplog.text)
        enqueue(near)
        proxy.set_mode(Mode.PASS)
        eventually(lambda: statuses(near) == {"sent"})
    near.close()
    services.close()

    assert caplog.text.count("The database is away") == 1
    assert caplog.text.count("The database is back") == 1


def test_delivery_before_the_first_migration_waits_says_so_once_and_goes_on_by_itself(
    empty_database, config, caplog
):
    with closing(open_backing_services(config)) as opened:
        services = replace(opened, database=empty_database)
        with delivering(services, succeed):
            eventually(lambda: "The database is away" in caplog.text)
            time.sleep(1.5)  # some more rounds
            migrations.upgrade(empty_database)
            enqueue(empty_database)
            eventually(lambda: statuses(empty_database) == {"sent"})

    (line,) = [each for each in caplog.records if each.message.startswith("The database is away")]
    assert line.reason == "The schema is behind"
    assert not [each for each in caplog.records if each.levelname == "ERROR"]


class Defective(LocalDispatcher):
    """Works like any other after some failures that nobody expects."""

    def __init__(self, concurrency, failures):
        super().__init__(concurrency)
        self.failures = failures

    def room(self, in_works):
        if self.failures:
            self.failures -= 1
            raise ZeroDivisionError
        return super().room(in_works)


def test_delivery_survives_what_nobody_expects_and_says_so(services, caplog):
    enqueue(services.database)

    with delivering(services, succeed, dispatcher=Defective(4, failures=2)) as delivery:
        eventually(lambda: statuses(services.database) == {"sent"})
        assert delivery.is_alive()

    assert caplog.text.count("Delivery broke; it goes on") == 2
    assert "ZeroDivisionError" in caplog.text


def test_a_message_that_breaks_the_delivery_is_tried_again_and_holds_no_thread(services):
    (broken,) = enqueue(services.database, trace=5)  # no headers that anybody wrote
    others = enqueue(services.database, 3)

    with delivering(services, succeed, concurrency=1):
        eventually(lambda: len(stored(services.database, status="sent")) == len(others))
        eventually(lambda: stored(services.database, id=broken)[0].last_error)

    (row,) = stored(services.database, id=broken)
    assert (row.status, row.last_error) == ("queued", "AttributeError")


@pytest.mark.integration
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_what_was_sent_before_an_outage_is_not_sent_again_after_it(postgresql_url, config, away):
    proxy, database = away
    near = DatabaseManager(postgresql_url).initialize()
    services = replace(
        open_backing_services(replace(config, database_url=postgresql_url)), database=database
    )
    calls, begun, leave = [], threading.Event(), threading.Event()

    def handler(_services, message):
        calls.append(message.id)
        begun.set()
        return leave.wait(DEADLINE_SECONDS)

    enqueue(near)
    with delivering(services, handler, lease=timedelta(seconds=1)):
        assert begun.wait(DEADLINE_SECONDS)
        with proxy.behaving(Mode.RESET):
            leave.set()
            lease_ends_at = stored(near)[0].due_at
            eventually(lambda: datetime.now(UTC) > lease_ends_at + timedelta(seconds=0.5))
        eventually(lambda: statuses(near) == {"sent"})
    near.close()
    services.close()

    assert len(calls) == 1
