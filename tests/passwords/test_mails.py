"""The e-mails about passwords: links that hold, and no text that a stranger chose."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from bootstrap import MAILS, make_links, make_mailer
from chassis.background.outbox import PATIENCE, Message
from chassis.clients.mail_templates import MailTemplates
from chassis.errors import Unavailable, Undeliverable
from chassis.links import InvalidLink
from chassis.storage.ids import first_id, uuid7
from tests.support.factories import make_user
from tests.support.passwords import NEW, change, claimed, make_token, reset, row_of, write
from userservice.passwords import recovery, service
from userservice.passwords.events import send_password_changed, send_recovery
from userservice.passwords.queries import NOBODY
from userservice.resources import EVENT_HANDLERS
from userservice.users import links
from userservice.users import service as users_service
from userservice.users.links import Purpose
from userservice.users.schemas import UserUpdate

pytestmark = pytest.mark.integration

NAME = "Buy cheap pills at http://evil.example"


@pytest.fixture
def mailing(services, config, provider):
    """The attached resources, the e-mail provider among them."""
    mailer = make_mailer(replace(config, email_service_url=provider.url))
    yield replace(services, mailer=mailer)
    mailer.close()


def asked(user_id, *, at=None, **payload):
    """Return a message about a user, made at a point in time."""
    at = at or datetime.now(UTC)
    message_id = UUID(int=first_id(at).int | uuid7().int & ~(((1 << 48) - 1) << 80))
    payload = {"user_id": str(user_id), **payload}
    topic = recovery.RECOVERY_REQUESTED
    return Message(message_id, topic, payload, {}, 1, at, at + PATIENCE, at)


def token_of(mail):
    return mail.document["variables"]["link"].partition("#")[2]


def test_a_forgotten_password_is_reset_by_the_link_of_the_email(mailing, provider, user):
    recovery.ask_for_recovery(mailing.database, user.email)

    for message in claimed(mailing):
        EVENT_HANDLERS[message.topic](mailing, message)

    mail = next(each for each in provider.taken if each.document["template"] == "reset_password")
    reset(mailing, token_of(mail))
    assert mail.to == user.email
    assert links.check_link(mailing, make_token(mailing, user), Purpose.RESET)[1].is_verified


def test_a_user_without_a_password_is_invited_by_an_administrator(mailing, provider):
    user = make_user(mailing.database)
    recovery.recover(mailing, user.id)

    for message in claimed(mailing):
        EVENT_HANDLERS[message.topic](mailing, message)

    mail = next(each for each in provider.taken if each.document["template"] == "invitation")
    reset(mailing, token_of(mail))
    assert links.check_link(mailing, make_token(mailing, user), Purpose.RESET)[1].is_verified


@pytest.mark.parametrize("purpose", [Purpose.RESET, Purpose.INVITATION])
def test_no_email_holds_text_that_a_stranger_chose(mailing, provider, purpose):
    user = make_user(mailing.database, name=NAME)

    send_recovery(mailing, asked(user.id, purpose=purpose.value))
    send_password_changed(mailing, asked(user.id))

    for mail in provider.taken:
        assert set(mail.document["variables"]) <= {"link"}
        letter = MailTemplates(MAILS, {"service": "Example"}).render(
            mail.document["template"], mail.document["variables"]
        )
        assert "evil" not in "".join([*letter, str(mail.document["variables"])])
    assert len(provider.taken) == 2


def test_each_try_sends_the_same_token(mailing, provider, user):
    message = asked(user.id)
    provider.answer = 503
    for _ in range(2):
        with pytest.raises(Unavailable):
            send_recovery(mailing, message)
    provider.answer = 200

    send_recovery(mailing, message)

    assert len({token_of(mail) for mail in provider.attempts}) == 1
    assert {mail.key for mail in provider.attempts} == {str(message.id)}


def test_a_secret_that_rotates_between_try_and_click_spoils_no_link(
    mailing, provider, user, config
):
    send_recovery(mailing, asked(user.id))
    rotated = replace(config, jwt_secret="n" * 32, jwt_secret_previous=config.jwt_secret)

    reset(replace(mailing, links=make_links(rotated)), token_of(provider.taken[0]))

    assert row_of(mailing, user).password_changed_at is not None


def test_a_secret_of_another_service_opens_nothing(mailing, provider, user, config):
    send_recovery(mailing, asked(user.id))
    foreign = replace(mailing, links=make_links(replace(config, jwt_secret="n" * 32)))

    with pytest.raises(InvalidLink):
        reset(foreign, token_of(provider.taken[0]))


def test_nobody_is_skipped_without_a_word(mailing, provider, caplog):
    caplog.set_level(logging.DEBUG)

    is_sent = send_recovery(mailing, asked(NOBODY))

    assert is_sent is False
    assert provider.attempts == []
    assert caplog.records == []


def dead(services, user, way):
    """Make what a message asks for dead."""
    if way == "deleted":
        users_service.delete_user(services.database, user.id)
    elif way == "suspended":
        write(services, user, suspended_at=datetime.now(UTC))
    elif way == "changed":
        change(services, user)
    elif way == "reset":
        reset(services, make_token(services, user))


@pytest.mark.parametrize("way", ["deleted", "suspended", "changed", "reset"])
def test_a_message_whose_link_is_dead_is_skipped(mailing, provider, user, way):
    message = asked(user.id, at=datetime.now(UTC) - timedelta(minutes=5))
    dead(mailing, user, way)

    with pytest.raises(Undeliverable):
        send_recovery(mailing, message)

    assert provider.attempts == []


def test_what_is_queued_again_after_a_new_password_is_skipped(mailing, provider):
    user = make_user(mailing.database)
    asked_at = datetime.now(UTC) - timedelta(days=2)
    message = asked(user.id, at=asked_at, purpose=Purpose.INVITATION.value)
    write(mailing, user, password_changed_at=asked_at + timedelta(days=1))
    anew = datetime.now(UTC)

    with pytest.raises(Undeliverable, match="changed since"):
        send_recovery(mailing, message._replace(due_at=anew, expires_at=anew + PATIENCE))

    assert provider.attempts == []


def test_a_message_that_is_sent_too_late_is_skipped(mailing, provider, user):
    for purpose, lifetime in ((Purpose.RESET, timedelta(hours=1)), ("invite", timedelta(days=7))):
        late = asked(user.id, at=datetime.now(UTC) - lifetime, purpose=purpose)
        with pytest.raises(Undeliverable):
            send_recovery(mailing, late)

    assert provider.attempts == []


def test_a_password_changed_before_the_request_does_not_stop_it(mailing, provider, user):
    change(mailing, user)
    recovery.ask_for_recovery(mailing.database, user.email)

    (message,) = (each for each in claimed(mailing) if each.topic == recovery.RECOVERY_REQUESTED)
    send_recovery(mailing, message)

    reset(mailing, token_of(provider.taken[0]), "yet another sentence")


def test_without_a_page_nothing_is_mailed_and_the_reason_is_kept(mailing, provider, user, config):
    nowhere = make_links(replace(config, environment=type(config.environment)("staging")))

    with pytest.raises(Undeliverable, match="ACCOUNT_URL"):
        send_recovery(replace(mailing, links=nowhere), asked(user.id))

    assert provider.attempts == []


def test_a_new_password_is_told_to_a_user_who_is_still_there(mailing, provider, user):
    assert send_password_changed(mailing, asked(user.id)) is True
    users_service.delete_user(mailing.database, user.id)
    assert send_password_changed(mailing, asked(user.id)) is False

    (mail,) = provider.attempts
    assert mail.document == {"to": user.email, "template": "password_changed", "variables": {}}


def test_nothing_secret_is_logged_or_kept_in_a_message(mailing, provider, user, caplog):
    caplog.set_level(logging.DEBUG)
    recovery.ask_for_recovery(mailing.database, user.email)
    messages = claimed(mailing)
    for message in messages:
        EVENT_HANDLERS[message.topic](mailing, message)
    token = token_of(provider.taken[-1])
    printed = recovery.make_printed_link(mailing, user.id)

    reset(mailing, token)

    told = caplog.text + "".join(str(each.__dict__) for each in caplog.records) + str(messages)
    stamp = row_of(mailing, user).stamp
    for secret in (token, printed.partition("#")[2], user.email, NEW, stamp):
        assert secret not in told


def test_the_handlers_are_known_by_their_topics():
    assert EVENT_HANDLERS[recovery.RECOVERY_REQUESTED] is send_recovery
    assert EVENT_HANDLERS[service.PASSWORD_CHANGED] is send_password_changed


# UTS 46 and an older folding of the case disagree about these: log-in finds no user by them.
OTHER_MAILBOXES = ("ada@straße.example.com", "ada@xn--strae-oqa.example.com")


@pytest.mark.parametrize("typed", OTHER_MAILBOXES)
def test_forgot_mails_nobody_but_the_user_whose_mailbox_was_named(mailing, provider, typed):
    make_user(mailing.database, email="ada@strasse.example.com")
    (registration,) = claimed(mailing)
    recovery.ask_for_recovery(mailing.database, typed)

    for message in claimed(mailing):
        with suppress(Undeliverable):
            assert not EVENT_HANDLERS[message.topic](mailing, message)

    assert registration.topic == "user.registered"
    assert provider.taken == []


def test_messages_that_wait_do_not_go_to_the_address_that_comes_next(mailing, provider, user):
    recovery.ask_for_recovery(mailing.database, user.email)
    recovery.recover(mailing, user.id)
    change(mailing, user)
    waiting = [each for each in claimed(mailing) if each.topic != "user.registered"]
    changes = UserUpdate.model_validate({"email": "next@example.com"})
    users_service.update_user(mailing.database, user.id, changes)

    for message in waiting:
        with pytest.raises(Undeliverable):
            EVENT_HANDLERS[message.topic](mailing, message)

    assert len(waiting) == 3
    assert provider.taken == []


def test_a_message_about_a_forgotten_password_carries_a_digest_for_every_address(services, user):
    for email in (user.email, "nobody@example.com"):
        recovery.ask_for_recovery(services.database, email)

    asked = [each for each in claimed(services) if each.topic == recovery.RECOVERY_REQUESTED]

    assert [set(each.payload) for each in asked] == [{"user_id", "private"}] * 2
    assert all(len(each.payload["private"]["mailbox"]) == 64 for each in asked)
