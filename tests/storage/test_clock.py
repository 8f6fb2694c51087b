from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import insert, select, text, update

from chassis.background import outbox
from chassis.background.outbox import messages
from chassis.storage import idempotency
from chassis.storage.clock import database_time
from chassis.storage.idempotency import AlreadyAnswered, Request, keys
from tests.support.waiting import DEADLINE_SECONDS

HOUR = timedelta(hours=1)
LEASE = timedelta(seconds=15)
SPANS = [timedelta(0), timedelta(seconds=15.25), -timedelta(days=1), timedelta(days=30)]


@pytest.fixture
def host_clock(monkeypatch):
    """Let the clock of this host be wrong; that of the database is not."""

    def set_wrong(span):
        class Clock(datetime):
            @classmethod
            def now(cls, tz=None):
                return datetime.now(tz) + span

        for module in (outbox, idempotency):
            monkeypatch.setattr(module, "datetime", Clock)

    return set_wrong


def enqueue(database):
    row = outbox.new_message("test.happened", {})
    with database.transaction() as connection:
        connection.execute(outbox.INSERT, row)
    return row["message_id"]


def claim(database):
    with database.connection() as connection:
        return outbox.claim(connection, limit=10, lease=LEASE)


@pytest.mark.parametrize("span", SPANS)
def test_the_database_tells_the_time_after_any_span(database, span):
    before = datetime.now(UTC)
    with database.connection() as connection:
        told = connection.scalar(select(database_time(span)))

    assert abs(told - before - span) < timedelta(seconds=DEADLINE_SECONDS)
    assert told.tzinfo is UTC


def test_times_of_the_database_compare_with_those_that_were_given(database):
    written = datetime.now(UTC) - timedelta(seconds=5)
    row = {"id": "1", "request_hash": "", "answer": "", "created_at": written}
    with database.connection() as connection:
        connection.execute(insert(keys), row)
        earlier = select(keys.c.id).where(keys.c.created_at < database_time())
        later = select(keys.c.id).where(keys.c.created_at > database_time(-HOUR))

        assert connection.scalar(earlier) == connection.scalar(later) == "1"


@pytest.mark.parametrize("wrong", [HOUR, -HOUR])
def test_a_message_of_a_host_whose_clock_is_wrong_is_due_at_once_and_for_a_day(
    database, host_clock, wrong
):
    host_clock(wrong)
    queued = enqueue(database)

    (message,) = claim(database)

    assert message.id == queued
    assert message.expires_at - message.claimed_at == pytest.approx(
        outbox.PATIENCE, abs=timedelta(seconds=DEADLINE_SECONDS)
    )


@pytest.mark.parametrize("wrong", [HOUR, -HOUR])
def test_a_host_whose_clock_is_wrong_leaves_the_claims_of_others_alone(database, host_clock, wrong):
    enqueue(database)
    (held,) = claim(database)
    host_clock(wrong)

    with database.connection() as connection:
        found = outbox.find_claimed(connection, held.id, attempts=held.attempts)

    assert claim(database) == []
    assert found is not None
    assert held.due_at - held.claimed_at == LEASE


def test_what_a_host_with_a_wrong_clock_puts_off_is_due_after_that_span(database, host_clock):
    enqueue(database)
    (held,) = claim(database)
    host_clock(HOUR)
    put_off = outbox.Settlement(held.id, outbox.MessageStatus.QUEUED, 1, due_in=LEASE * 2)

    with database.transaction() as connection:
        outbox.settle(connection, [put_off])
        due_at = connection.scalar(select(messages.c.due_at))

    assert LEASE * 2 <= due_at - held.claimed_at < LEASE * 2 + timedelta(seconds=DEADLINE_SECONDS)


def test_the_backlog_is_as_old_as_it_is_whatever_the_clock_of_the_host(database, host_clock):
    enqueue(database)
    host_clock(HOUR)

    with database.connection() as connection:
        oldest = outbox.backlog(connection).oldest

    assert oldest is not None
    age = datetime.now(UTC) + HOUR - oldest
    assert timedelta(0) <= age < timedelta(seconds=DEADLINE_SECONDS)


@pytest.mark.parametrize("wrong", [25 * HOUR, -25 * HOUR])
def test_an_answer_is_kept_for_a_day_whatever_the_clock_of_the_host(database, host_clock, wrong):
    request = Request("POST /users", "key", b"{}")
    with database.transaction() as connection:
        idempotency.reserve(connection, request, "answer")
    host_clock(wrong)

    with pytest.raises(AlreadyAnswered):
        idempotency.recall(database, request)
    assert idempotency.count_expired_keys(database) == 0


def test_a_claim_by_the_clock_of_the_database_reads_what_is_due_alone(database):
    rows = [outbox.new_message("test.happened", {}) for _ in range(2000)]
    with database.transaction() as connection:
        connection.execute(outbox.INSERT, rows)
        connection.execute(update(messages).values(status="sent"))
    due = select(messages.c.id).where(
        messages.c.status == text("'queued'"), messages.c.due_at <= database_time()
    )
    statement = due.order_by(messages.c.due_at).limit(1).compile(database.engine)
    explain = "EXPLAIN QUERY PLAN " if database.is_sqlite else "EXPLAIN "

    with database.connection() as connection:
        if not database.is_sqlite:
            connection.execute(text("ANALYZE outbox_messages"))
        values = statement.params
        if database.is_sqlite:
            values = tuple(values[name] for name in statement.positiontup or ())
        plan = str(connection.exec_driver_sql(explain + str(statement), values).all())

    assert "ix_outbox_messages_due" in plan
