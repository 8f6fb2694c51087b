from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import insert, select, text, update

import admin
from admin import AdminCommands
from chassis.background import outbox
from chassis.background.outbox import messages
from chassis.storage import idempotency
from chassis.storage.clock import database_time
from chassis.storage.idempotency import AlreadyAnswered, Request, keys
from tests.support.factories import make_user
from tests.support.waiting import DEADLINE_SECONDS
from userservice.jobs import imports, uploads
from userservice.jobs import queries as job_queries
from userservice.jobs import service as jobs
from userservice.jobs.models import JobState, UploadFormat
from userservice.users import registration, transfer
from userservice.users import service as users
from userservice.users.queries import find_users
from userservice.users.schemas import UserCreate, UserUpdate

HOUR = timedelta(hours=1)
LEASE = timedelta(seconds=15)
STORES = (outbox, idempotency)
SPANS = [timedelta(0), timedelta(seconds=15.25), -timedelta(days=1), timedelta(days=30)]


@pytest.fixture
def host_clock(monkeypatch):
    """Let the clock of this host be wrong; that of the database is not."""

    def set_wrong(span):
        class Clock(datetime):
            @classmethod
            def now(cls, tz=None):
                return datetime.now(tz) + span

        for module in (*STORES, admin, registration, transfer, users, imports, jobs, uploads):
            monkeypatch.setattr(module, "datetime", Clock, raising=False)

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


@pytest.mark.parametrize("wrong", [HOUR, -HOUR])
def test_the_times_of_a_job_are_the_databases(database, host_clock, wrong):
    host_clock(wrong)

    job = uploads.start_import(database, UploadFormat.CSV, [b"email,name\n"])
    cancelled = uploads.start_import(database, UploadFormat.CSV, [b"email,name\n"])
    jobs.cancel_job(database, cancelled.id)
    jobs.fail_job(database, job.id, "reason")

    stored = [jobs.get_job(database, each.id)[0] for each in (job, cancelled)]
    assert [each.created_at for each in stored] == [job.created_at, cancelled.created_at]
    assert all(is_now(each.created_at) and is_now(each.updated_at) for each in stored)


def test_an_upload_of_a_host_whose_clock_is_ahead_is_not_taken_for_one_that_broke_off(
    database, host_clock
):
    job = uploads.start_import(database, UploadFormat.CSV, [b"email,name\n"])
    with database.connection() as connection:
        job_queries.update_job(connection, job.id, state=JobState.UPLOADING)
    host_clock(25 * HOUR)

    assert jobs.count_old_jobs(database, before=datetime.now(UTC) - HOUR) == 0


@pytest.mark.parametrize("wrong", [HOUR, -HOUR])
def test_users_are_changed_and_imported_by_the_databases_clock(database, host_clock, wrong):
    user = make_user(database)
    new = transfer.pack_users(
        [UserCreate(email="b@example.com", name="B")], [transfer.Known(None, is_verified=False)]
    )
    host_clock(wrong)

    changed = users.update_user(database, user.id, UserUpdate(name="Other"))
    with database.transaction() as connection:
        transfer.import_users(connection, new)
        (imported,) = find_users(connection, [UUID(new.id[0])])

    assert is_now(changed.updated_at)
    assert is_now(imported.created_at)


def test_no_change_is_told_to_be_before_the_creation(database, host_clock):
    host_clock(HOUR)
    user = make_user(database)

    changed = users.update_user(database, user.id, UserUpdate(name="Other"))

    assert changed.updated_at == user.created_at == changed.created_at


def test_a_cleanup_by_a_host_whose_clock_is_ahead_removes_nothing_too_early(
    config, services, host_clock
):
    users.delete_user(services.database, make_user(services.database).id)
    host_clock(40 * 24 * HOUR)
    commands = AdminCommands(config, services)

    assert commands.count_old_data(days=30)["users"] == 0
    assert commands.cleanup_old_data(days=30)["users"] == 0


def is_now(told):
    return abs(datetime.now(UTC) - told) < timedelta(seconds=DEADLINE_SECONDS)


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
