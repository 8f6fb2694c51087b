"""Personal data in a payload goes with the outcome of its message, whatever that is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, update

from chassis.background import outbox, redaction
from chassis.background.outbox import MessageStatus, Settlement, messages
from chassis.errors import Unavailable, Undeliverable
from tests.background.test_delivery import TOPIC, delivering
from tests.support.waiting import eventually

PAYLOAD = {"id": "1", redaction.PRIVATE: {"note": "ada@example.com"}}
DAY = timedelta(days=1)


def enqueue(database, payload=PAYLOAD, *, expires_in=DAY):
    row = outbox.new_message(TOPIC, payload)
    with database.transaction() as connection:
        connection.execute(outbox.INSERT, row)
        values = {"expires_at": datetime.now(UTC) + expires_in}
        connection.execute(update(messages).values(values))


def stored(database):
    with database.connection() as connection:
        return connection.execute(select(messages)).one()


def send(_services, message):
    assert redaction.private_of(message) == PAYLOAD[redaction.PRIVATE]
    return True


def skip(_services, _message):
    return False


def give_up(_services, _message):
    raise Undeliverable("There is nobody")


def fail(_services, _message):
    raise Unavailable


@pytest.mark.parametrize(
    ("handler", "expires_in", "status"),
    [
        (send, DAY, MessageStatus.SENT),
        (skip, DAY, MessageStatus.SKIPPED),
        (give_up, DAY, MessageStatus.SKIPPED),
        (fail, timedelta(0), MessageStatus.ABANDONED),
    ],
)
def test_personal_data_go_when_the_message_is_settled(services, handler, expires_in, status):
    enqueue(services.database, expires_in=expires_in)

    with delivering(services, handler):
        eventually(lambda: stored(services.database).status == status)

    assert stored(services.database).payload == {"id": "1"}


def test_personal_data_stay_for_the_next_try(services):
    enqueue(services.database)

    with delivering(services, fail):
        eventually(lambda: stored(services.database).last_error)

    assert stored(services.database).payload == PAYLOAD


def test_a_worker_that_lost_its_claim_takes_nothing_from_the_next_one(database):
    enqueue(database)
    with database.connection() as connection:
        [late] = outbox.claim(connection, limit=1, lease=timedelta(0))
        outbox.claim(connection, limit=1, lease=DAY)
    skipped = Settlement(late.id, MessageStatus.SKIPPED, late.attempts, payload=late.payload)

    with database.transaction() as connection:
        outbox.settle(connection, [skipped])
        redaction.redact(connection, [skipped])

    assert stored(database).payload == PAYLOAD


def test_what_was_settled_carries_no_personal_data_any_more(services):
    enqueue(services.database, {"id": "1"})
    seen = []

    def note(_services, message):
        seen.append(message)
        return True

    with delivering(services, note):
        eventually(lambda: seen)

    assert redaction.private_of(seen[0]) == {}
