from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import event, func, select, text, update
from sqlalchemy.exc import IntegrityError

from chassis.background import outbox, upkeep
from chassis.background.outbox import Message, MessageStatus, Settlement, messages
from chassis.storage.idempotency import IdempotencyKey
from chassis.storage.ids import uuid7
from tests.support.factories import ADA, make_user
from tests.support.waiting import DEADLINE_SECONDS
from userservice.users import queries
from userservice.users.errors import EmailTaken
from userservice.users.models import Status, User
from userservice.users.queries import UserRow

NOW = datetime.now(UTC) + timedelta(hours=2)  # all that is queued during the tests is due
LEASE = timedelta(seconds=15)
SECOND = timedelta(seconds=1)


def enqueue(database, *, due_in=timedelta(0), created=None):
    """Queue a message; `created` moves its whole life to another time."""
    row = outbox.new_message("test.happened", {"number": 1})
    if due_in:
        row["message_due_at"] = datetime.now(UTC) + due_in
    if created is not None:
        row["message_id"] = UUID(int=int(created.timestamp() * 1000) << 80 | uuid7().int % 2**80)
        row["message_due_at"] = created
        row["message_expires_at"] = created + outbox.PATIENCE
    with database.connection() as connection:
        connection.execute(outbox.INSERT, row)
    return row["message_id"]


def claim(database, *, now=NOW, limit=100, lease=LEASE):
    with database.connection() as connection:
        return outbox.claim(connection, now=now, limit=limit, lease=lease)


def claim_ids(database, **options):
    return [message.id for message in claim(database, **options)]


def settle(database, message, status, *, now=NOW, **values):
    settlement = Settlement(message.id, status, message.attempts, now, **values)
    with database.transaction() as connection:
        outbox.settle(connection, [settlement])


def find(database, message, *, now=NOW):
    """Look a message up as a worker does that got its id from the queue."""
    with database.connection() as connection:
        return outbox.find_claimed(connection, message.id, attempts=message.attempts, now=now)


def read(database, message_id):
    with database.connection() as connection:
        return connection.execute(select(messages).where(messages.c.id == message_id)).one()


def count(database, table):
    with database.connection() as connection:
        return connection.scalar(select(func.count()).select_from(table))


def test_a_claim_takes_the_oldest_messages_first(database):
    late = enqueue(database, due_in=20 * SECOND)
    early = enqueue(database)
    middle = enqueue(database, due_in=10 * SECOND)

    taken = [claim_ids(database, limit=1) for _ in range(3)]

    assert taken == [[early], [middle], [late]]


def test_a_claim_takes_no_more_than_its_limit(database):
    for _ in range(5):
        enqueue(database)

    taken = [len(claim_ids(database, limit=2)) for _ in range(4)]

    assert taken == [2, 2, 1, 0]


def test_a_message_that_is_not_due_is_left_alone(database):
    due_at = datetime.now(UTC) + timedelta(minutes=5)
    queued = enqueue(database, due_in=timedelta(minutes=5))

    assert claim_ids(database, now=due_at - SECOND) == []
    assert claim_ids(database, now=due_at + SECOND) == [queued]


def test_a_claimed_message_comes_back_when_its_lease_ends(database):
    enqueue(database)

    first = claim(database, now=NOW)
    during = claim(database, now=NOW + LEASE - SECOND)
    after = claim(database, now=NOW + LEASE)

    assert [message.attempts for message in first] == [1]
    assert during == []
    assert [(message.id, message.attempts) for message in after] == [(first[0].id, 2)]


def test_a_message_is_claimed_as_it_was_queued(database):
    queued = enqueue(database)

    (message,) = claim(database)

    assert isinstance(message, Message)
    assert (message.id, message.topic, message.payload) == (queued, "test.happened", {"number": 1})
    assert message.expires_at - datetime.now(UTC) == pytest.approx(outbox.PATIENCE, abs=60 * SECOND)


def test_workers_that_claim_at_once_share_nothing_and_leave_nothing(database):
    queued = {enqueue(database) for _ in range(60)}
    together = threading.Barrier(4)

    def work(_number):
        together.wait(DEADLINE_SECONDS)
        taken = []
        while batch := claim_ids(database, limit=5):
            taken += batch
        return taken

    with ThreadPoolExecutor(4) as threads:
        taken = [message for batch in threads.map(work, range(4)) for message in batch]

    assert len(taken) == 60
    assert set(taken) == queued


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_claim_skips_the_rows_that_another_is_claiming(database):
    first, second = enqueue(database), enqueue(database)

    with database.transaction() as other:
        held = outbox.claim(other, now=NOW, limit=1, lease=LEASE)
        meanwhile = claim_ids(database, limit=2)

    assert [message.id for message in held] == [first]
    assert meanwhile == [second]


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_no_row_stays_locked_after_a_claim(database):
    queued = enqueue(database)

    claim(database)
    with database.transaction() as other:
        statement = select(messages.c.id).where(messages.c.id == queued)
        locked = other.scalars(statement.with_for_update(nowait=True)).all()

    assert locked == [queued]


@pytest.mark.parametrize("status", [MessageStatus.SENT, MessageStatus.SKIPPED])
def test_a_settled_message_is_not_claimed_again(database, status):
    enqueue(database)
    (message,) = claim(database)

    settle(database, message, status)

    assert claim(database, now=NOW + timedelta(days=2)) == []
    assert read(database, message.id).status == status


def test_a_failed_message_is_due_again_at_its_time_with_its_error(database):
    enqueue(database)
    (message,) = claim(database)

    settle(database, message, MessageStatus.QUEUED, now=NOW + 2 * SECOND, last_error="no answer")

    assert read(database, message.id).last_error == "no answer"
    assert claim(database, now=NOW + SECOND) == []
    assert claim_ids(database, now=NOW + 2 * SECOND) == [message.id]


def test_a_message_that_was_not_tried_keeps_its_number_of_attempts(database):
    enqueue(database)
    (message,) = claim(database)

    settle(database, message, MessageStatus.QUEUED, is_tried=False)

    assert read(database, message.id).attempts == 0
    assert [each.attempts for each in claim(database)] == [1]


@pytest.mark.parametrize("status", [MessageStatus.QUEUED, MessageStatus.ABANDONED])
def test_a_failure_of_a_worker_that_lost_its_claim_is_not_stored(database, status):
    enqueue(database)
    (lost,) = claim(database)
    (held,) = claim(database, now=NOW + LEASE)

    settle(database, lost, status, last_error="too late")

    row = read(database, held.id)
    assert (row.status, row.attempts, row.last_error) == (MessageStatus.QUEUED, 2, None)


def test_that_a_message_was_sent_is_stored_whoever_says_so(database):
    enqueue(database)
    (lost,) = claim(database)
    (held,) = claim(database, now=NOW + LEASE)

    settle(database, lost, MessageStatus.SENT)
    settle(database, held, MessageStatus.QUEUED, last_error="no answer")

    row = read(database, held.id)
    assert (row.status, row.last_error) == (MessageStatus.SENT, None)


def test_a_message_that_was_sent_in_the_end_has_no_error(database):
    enqueue(database)
    (failed,) = claim(database)
    settle(database, failed, MessageStatus.QUEUED, now=NOW, last_error="no answer")
    (tried_again,) = claim(database)

    settle(database, tried_again, MessageStatus.SENT)

    row = read(database, failed.id)
    assert (row.status, row.last_error) == (MessageStatus.SENT, None)


def test_messages_are_settled_together(database):
    for _ in range(3):
        enqueue(database)
    settlements = [
        Settlement(message.id, MessageStatus.SENT, message.attempts, NOW)
        for message in claim(database)
    ]

    with database.transaction() as connection:
        outbox.settle(connection, settlements)

    assert {read(database, each.id).status for each in settlements} == {"sent"}


def test_a_message_that_was_settled_meanwhile_is_not_settled_again(database):
    enqueue(database)
    enqueue(database)
    skipped, sent = claim(database)
    settle(database, skipped, MessageStatus.SKIPPED)

    with database.transaction() as connection:
        outbox.settle(
            connection,
            [
                Settlement(each.id, MessageStatus.SENT, each.attempts, NOW)
                for each in (skipped, sent)
            ],
        )

    assert read(database, skipped.id).status == "skipped"
    assert read(database, sent.id).status == "sent"


def test_failures_are_stored_in_the_order_of_their_ids(database):
    ids = sorted(enqueue(database) for _ in range(3))
    failed = [Settlement(each.id, MessageStatus.QUEUED, 1, NOW) for each in claim(database)]
    stored: list[UUID] = []

    def note(_connection, _cursor, _statement, _parameters, context, _is_many):
        stored.extend(each["key"] for each in context.compiled_parameters)

    with database.transaction() as connection:
        event.listen(connection, "before_cursor_execute", note)
        outbox.settle(connection, failed[::-1])

    assert stored == ids


@pytest.mark.integration
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_workers_that_settle_the_same_messages_wait_for_each_other(database):
    for _ in range(40):
        enqueue(database)
    sent = [Settlement(each.id, MessageStatus.SENT, 1) for each in claim(database)]
    failed = [Settlement(each.id, MessageStatus.QUEUED, 1, NOW) for each in sent]
    start = threading.Barrier(4)

    def settle_all(settlements):
        start.wait()
        with database.transaction() as connection:
            outbox.settle(connection, settlements)

    with ThreadPoolExecutor(4) as threads:
        lists = [sent, sent[::-1], failed, failed[::-1]]
        done = [threads.submit(settle_all, each) for each in lists]

    assert [each.exception() for each in done] == [None] * 4
    assert {read(database, each.id).status for each in sent} == {"sent"}


def test_the_backlog_counts_what_waits_and_what_was_given_up(database):
    oldest = NOW - timedelta(hours=3)
    enqueue(database, created=oldest)
    for _ in range(4):
        enqueue(database)
    claimed = claim(database, limit=3)
    settle(database, claimed[1], MessageStatus.ABANDONED)
    settle(database, claimed[2], MessageStatus.SENT)

    with database.connection() as connection:
        backlog = outbox.backlog(connection)

    assert (backlog.queued, backlog.abandoned) == (3, 1)
    assert backlog.oldest == pytest.approx(oldest, abs=SECOND)


def test_an_empty_outbox_has_no_oldest_message(database):
    with database.connection() as connection:
        backlog = outbox.backlog(connection)

    assert backlog == (0, 0, None)


def abandon(database, number):
    for _ in range(number):
        enqueue(database)
    abandoned = claim(database)
    for message in abandoned:
        settle(database, message, MessageStatus.ABANDONED, last_error="no answer")
    return [message.id for message in abandoned]


def requeue(database, ids, *, now=NOW):
    with database.connection() as connection:
        return upkeep.requeue(connection, ids, now=now)


def test_a_requeued_message_has_another_day_from_its_first_attempt_on(database):
    (abandoned,) = abandon(database, 1)
    later = NOW + timedelta(days=3)

    number = requeue(database, [abandoned], now=later)

    (message,) = claim(database, now=later)
    assert number == 1
    assert (message.id, message.attempts) == (abandoned, 1)
    assert message.expires_at == later + outbox.PATIENCE
    assert read(database, abandoned).last_error is None


def test_some_or_all_abandoned_messages_are_requeued_and_no_others(database):
    first, *others = abandon(database, 3)
    enqueue(database)
    (sent,) = claim(database)
    settle(database, sent, MessageStatus.SENT)

    some = requeue(database, [first, sent.id])
    rest = requeue(database, None)

    assert (some, rest) == (1, 2)
    assert set(claim_ids(database)) == {first, *others}
    assert read(database, sent.id).status == "sent"


def test_messages_are_listed_by_status_oldest_first(database):
    abandoned = abandon(database, 3)
    enqueue(database)

    with database.connection() as connection:
        listed = upkeep.list_messages(connection, MessageStatus.ABANDONED, limit=2)

    assert [row["id"] for row in listed] == sorted(abandoned)[:2]
    assert {row["last_error"] for row in listed} == {"no answer"}
    assert "payload" not in listed[0]


def test_a_purge_removes_delivered_messages_by_age_and_no_others(database):
    month_ago, week_ago = NOW - timedelta(days=31), NOW - timedelta(days=7)
    old = [enqueue(database, created=month_ago) for _ in range(3)]
    young = enqueue(database, created=week_ago)
    for message in claim(database):
        settle(database, message, MessageStatus.SENT)
    given_up = enqueue(database, created=month_ago)
    (claimed,) = claim(database)
    settle(database, claimed, MessageStatus.ABANDONED)
    waiting = enqueue(database, created=month_ago)
    before = NOW - timedelta(days=30)

    counted = upkeep.count_settled(database, before=before)
    purged = sum(upkeep.purge_settled(database, before=before))
    with database.connection() as connection:
        left = set(connection.scalars(select(messages.c.id)))

    assert counted == purged == len(old)
    assert left == {young, given_up, waiting}


def test_delivered_messages_are_purged_in_batches(database):
    rows = [outbox.new_message("test.happened", {}) for _ in range(1001)]
    with database.transaction() as connection:
        connection.execute(outbox.INSERT, rows)
        connection.execute(update(messages).values(status=MessageStatus.SENT))

    assert list(upkeep.purge_settled(database, before=NOW)) == [1000, 1]


def test_a_claim_is_found_until_it_ends_is_settled_or_is_made_anew(database):
    message_id = enqueue(database)
    (first,) = claim(database)

    assert find(database, first).id == message_id
    assert find(database, first, now=NOW + LEASE) is None
    (second,) = claim(database, now=NOW + LEASE)
    assert find(database, first, now=NOW + LEASE) is None
    assert find(database, second, now=NOW + LEASE).attempts == 2
    settle(database, second, MessageStatus.SENT)
    assert find(database, second, now=NOW + LEASE) is None


def test_a_new_user_and_the_message_about_it_are_stored_together(database):
    user = make_user(database)

    (message,) = claim(database)
    assert message.topic == "user.registered"
    assert message.payload == {"user_id": str(user.id)}


def test_a_registration_that_is_refused_leaves_no_message(database):
    make_user(database, email="ada@example.com")

    with pytest.raises(EmailTaken):
        make_user(database, email="ADA@example.com")

    assert (count(database, User), count(database, messages)) == (1, 1)


def test_a_message_that_cannot_be_stored_leaves_no_user(database):
    queued = enqueue(database)
    now = datetime.now(UTC)
    user = UserRow(uuid7(), "ada@example.com", "Ada", Status.ACTIVE, 1, now, now)
    values = user._asdict() | {
        "email_key": "ada@example.com",
        "mailbox_key": "ada@example.com",
        "signup_source": "web",
        "tier": "free",
        "is_superuser": False,
        "password_hash": None,
    }
    message = outbox.new_message("user.registered", {}) | {"message_id": queued}

    with pytest.raises(IntegrityError), database.transaction() as connection:
        queries.insert_user(connection, values, message)

    assert (count(database, User), count(database, messages)) == (0, 1)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_postgresql_stores_user_and_message_in_one_statement(database):
    statements = []
    make_user(database)  # the first connection says more than the statement

    @event.listens_for(database.engine, "do_execute")
    def note(_cursor, statement, *_others):
        statements.append(statement)

    make_user(database)

    assert len(statements) == 1
    assert "INSERT INTO users" in statements[0]
    assert "INSERT INTO outbox_messages" in statements[0]


def test_a_repeated_request_with_a_key_stores_user_and_message_once(client, database):
    headers = {"Idempotency-Key": "once"}

    first = client.post("/users", json=ADA, headers=headers)
    again = client.post("/users", json=ADA, headers=headers)

    assert (first.status_code, again.status_code) == (201, 201)
    assert (count(database, User), count(database, messages)) == (1, 1)


def test_a_refused_request_with_a_key_stores_nothing(client, database):
    client.post("/users", json=ADA)

    refused = client.post("/users", json=ADA, headers={"Idempotency-Key": "refused"})

    assert refused.status_code == 409
    assert (count(database, User), count(database, messages)) == (1, 1)
    assert count(database, IdempotencyKey) == 0


def test_requests_with_one_key_at_once_store_one_user_and_one_message(app, database):
    together = threading.Barrier(4)

    def post(_number):
        together.wait(DEADLINE_SECONDS)
        headers = {"Idempotency-Key": "many"}
        return app.test_client().post("/users", json=ADA, headers=headers).status_code

    with ThreadPoolExecutor(4) as threads:
        statuses = set(threads.map(post, range(4)))

    assert 201 in statuses
    assert statuses <= {201, 409}
    assert (count(database, User), count(database, messages)) == (1, 1)


def test_an_old_outbox_does_not_slow_a_claim(database):
    rows = [outbox.new_message("test.happened", {}) for _ in range(2000)]
    with database.transaction() as connection:
        connection.execute(outbox.INSERT, rows)
        connection.execute(update(messages).values(status="sent"))
    queued = enqueue(database)

    plan = explain_claim(database)

    assert "ix_outbox_messages_due" in plan
    assert claim_ids(database) == [queued]


def explain_claim(database):
    """Return how the database finds what is due."""
    statements = []

    @event.listens_for(database.engine, "before_cursor_execute")
    def note(_connection, _cursor, statement, parameters, *_others):
        statements.append((statement, parameters))

    with database.connection() as connection:
        if not database.is_sqlite:
            connection.execute(text("ANALYZE outbox_messages"))
        outbox.claim(connection, now=NOW - timedelta(days=1), limit=1, lease=LEASE)
        statement, parameters = statements[-1]
        explain = "EXPLAIN QUERY PLAN " if database.is_sqlite else "EXPLAIN "
        return str(connection.exec_driver_sql(explain + statement, parameters).all())
