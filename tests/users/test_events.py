from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from bootstrap import make_mailer
from chassis.background.outbox import Message
from chassis.errors import Unavailable
from chassis.storage.ids import uuid7
from tests.support.factories import make_user
from tests.support.statements import sent_by
from userservice.resources import EVENT_HANDLERS, EVENT_READERS
from userservice.users import registration, service
from userservice.users.events import send_welcome_email
from userservice.users.schemas import UserUpdate


@pytest.fixture
def mailing(services, config, provider):
    """The attached resources, the e-mail provider among them."""
    mailer = make_mailer(replace(config, email_service_url=provider.url))
    yield replace(services, mailer=mailer)
    mailer.close()


def registered(user_id):
    now = datetime.now(UTC)
    payload = {"user_id": str(user_id)}
    return Message(uuid7(), registration.USER_REGISTERED, payload, {}, 1, now, now, now)


def test_a_new_user_is_welcomed_by_name(mailing, provider):
    user = make_user(mailing.database, email="ada@example.com", name="Ada Lovelace")
    message = registered(user.id)

    is_sent = send_welcome_email(mailing, message)

    (mail,) = provider.attempts
    assert is_sent is True
    assert mail.document == {
        "to": "ada@example.com",
        "template": "welcome",
        "variables": {"name": "Ada Lovelace"},
    }


def test_the_message_is_the_key_on_every_try(mailing, provider):
    message = registered(make_user(mailing.database).id)
    provider.answer = 503
    with pytest.raises(Unavailable):
        send_welcome_email(mailing, message)
    provider.answer = 202

    send_welcome_email(mailing, message)

    assert [mail.key for mail in provider.attempts] == [str(message.id)] * 2


def test_a_user_who_was_deleted_meanwhile_is_skipped(mailing, provider):
    user = make_user(mailing.database)
    service.delete_user(mailing.database, user.id)

    is_sent = send_welcome_email(mailing, registered(user.id))

    assert is_sent is False
    assert provider.attempts == []


def test_a_user_who_was_renamed_meanwhile_is_called_by_the_new_name(mailing, provider):
    user = make_user(mailing.database, name="Ada Byron")
    changes = UserUpdate(name="Ada Lovelace")
    service.update_user(mailing.database, user.id, changes)

    send_welcome_email(mailing, registered(user.id))

    assert provider.attempts[0].document["variables"] == {"name": "Ada Lovelace"}


def test_the_users_of_many_messages_are_read_in_one_statement(mailing, provider):
    users = [make_user(mailing.database, email=f"u{each}@example.com") for each in range(3)]
    service.delete_user(mailing.database, users[0].id)
    messages = [registered(user.id) for user in [*users, users[2]]]

    with sent_by(mailing.database) as executed:
        known = EVENT_READERS[registration.USER_REGISTERED](mailing, messages)
        sent = [
            send_welcome_email(mailing, message._replace(known=known[message.id]))
            for message in messages[1:]
        ]

    assert len(executed) == 1
    assert messages[0].id not in known
    assert sent == [True] * 3
    assert [mail.to for mail in provider.taken] == [users[1].email, users[2].email, users[2].email]


def test_without_a_provider_nothing_is_sent(services):
    user = make_user(services.database)

    assert send_welcome_email(services, registered(user.id)) is False


def test_a_failure_is_logged_with_the_user_and_without_the_address(mailing, provider, caplog):
    user = make_user(mailing.database, email="ada@example.com", name="Lovelace")
    provider.answer = 500
    caplog.set_level(logging.INFO)

    with pytest.raises(Unavailable):
        send_welcome_email(mailing, registered(user.id))

    (record,) = [each for each in caplog.records if each.levelno >= logging.WARNING]
    assert record.levelname == "WARNING"
    assert record.message == "Failed to send welcome email"
    assert record.__dict__["user_id"] == str(user.id)
    assert record.exc_info is not None
    assert "ada@example.com" not in caplog.text
    assert "Lovelace" not in caplog.text


def test_an_email_that_was_taken_is_logged_without_its_recipient(mailing, caplog):
    user = make_user(mailing.database, email="ada@example.com", name="Lovelace")
    caplog.set_level(logging.INFO)

    send_welcome_email(mailing, registered(user.id))

    (record,) = [each for each in caplog.records if each.message == "Welcome email sent"]
    assert record.levelname == "INFO"
    assert record.__dict__["user_id"] == str(user.id)
    assert record.__dict__["attempts"] == 1
    assert record.__dict__["duration_ms"] > 0
    assert "ada@example.com" not in caplog.text + repr(record.__dict__)
    assert "Lovelace" not in caplog.text + repr(record.__dict__)


def test_the_handler_is_known_by_the_topic_of_a_registration():
    assert EVENT_HANDLERS[registration.USER_REGISTERED] is send_welcome_email
