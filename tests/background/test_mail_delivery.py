"""Messages become e-mails at a real mail server; those that it refuses hold up no other."""

from __future__ import annotations

import logging
from contextlib import ExitStack, closing
from dataclasses import replace

import pytest

from bootstrap import open_backing_services
from tests.background.test_delivery import delivering, stored
from tests.support.factories import make_user
from tests.support.mail_server import MailServer
from tests.support.waiting import eventually
from userservice.resources import EVENT_HANDLERS, EVENT_READERS

NAME = "Lovelace-3907"


@pytest.fixture
def server():
    with closing(MailServer()) as running:
        yield running


@pytest.fixture
def mailing(services, config, server):
    """The attached resources with that mail server."""
    settings = replace(
        config, email_service_url=server.url, email_from="Example <no-reply@example.com>"
    )
    with ExitStack() as stack:
        opened = stack.enter_context(closing(open_backing_services(settings)))
        yield replace(services, mailer=opened.mailer, external=opened.external)


def registered(services, *names):
    for each in names:
        make_user(services.database, email=f"{each}-3907@example.com", name=NAME)


def test_a_recipient_who_is_refused_is_skipped_with_a_reason_and_all_others_get_theirs(
    mailing, server, caplog
):
    caplog.set_level(logging.INFO)
    server.answers["bob-3907@example.com"] = "550 5.1.1 <bob-3907@example.com>: no such user"
    registered(mailing, "ada", "bob", "grace", "joan")

    with delivering(mailing, EVENT_HANDLERS, readers=EVENT_READERS):
        eventually(lambda: not stored(mailing.database, status="queued"))

    assert {mail.recipient for mail in server.received} == {
        f"{each}-3907@example.com" for each in ("ada", "grace", "joan")
    }
    (skipped,) = stored(mailing.database, status="skipped")
    reason = "The mail server refused the recipient: 550 5.1.1"
    assert (skipped.last_error, skipped.attempts) == (reason, 1)
    (record,) = [each for each in caplog.records if each.message == "Message skipped"]
    assert (record.levelname, record.__dict__["reason"]) == ("WARNING", reason)
    assert not [each for each in caplog.records if each.levelno >= logging.ERROR]


def test_an_email_bears_the_id_of_its_message_and_no_text_that_a_stranger_chose(mailing, server):
    registered(mailing, "ada")

    with delivering(mailing, EVENT_HANDLERS, readers=EVENT_READERS):
        eventually(lambda: not stored(mailing.database, status="queued"))

    (row,) = stored(mailing.database, status="sent")
    (mail,) = server.received
    assert mail.message["Message-ID"] == f"<{row.id}@example.com>"
    assert mail.message["Subject"] == "Welcome to Example"
    assert NAME not in str(mail.message)


def test_a_message_that_is_tried_again_keeps_its_id(mailing, server):
    server.answers["ada-3907@example.com"] = "450 4.2.0 come back"
    registered(mailing, "ada")

    with delivering(mailing, EVENT_HANDLERS, readers=EVENT_READERS):
        eventually(lambda: stored(mailing.database, status="queued")[0].last_error)
        server.answers.clear()
        eventually(lambda: not stored(mailing.database, status="queued"))

    (row,) = stored(mailing.database, status="sent")
    assert server.received[0].message["Message-ID"] == f"<{row.id}@example.com>"
    assert row.attempts >= 2


def test_no_address_and_no_words_of_the_server_reach_logs_spans_or_the_stored_reason(
    mailing, server, spans, caplog
):
    caplog.set_level(logging.DEBUG)
    for each, code in (("ada", 550), ("bob", 450)):
        server.answers[f"{each}-3907@example.com"] = f"{code} {each}-3907@example.com hidden-3907"
    registered(mailing, "ada", "bob")

    with delivering(mailing, EVENT_HANDLERS, readers=EVENT_READERS):
        eventually(lambda: stored(mailing.database, status="skipped"))
        eventually(lambda: stored(mailing.database, status="queued")[0].last_error)

    told = [each for each in caplog.records if not each.name.startswith(("mail", "asyncio"))]
    assert "3907" not in "".join(map(logging.Formatter().format, told))
    assert "3907" not in "".join(str(vars(each)) for each in told)
    assert "3907" not in "".join(row.last_error for row in stored(mailing.database))
    ended = spans()
    assert {"send_welcome_email", "user_service.send_welcome_email"} <= ended.keys()
    assert "3907" not in "".join(each.to_json() for each in ended.values())


def test_readiness_looks_at_the_mail_server(mailing, server):
    mailing.pings()["external_apis"]()

    assert server.received == []
    assert server.commands == []
