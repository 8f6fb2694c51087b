"""Addresses are verified: after registration, when a user asks, by an operator."""

from __future__ import annotations

import re
from uuid import UUID

from sqlalchemy import event, select

from admin import AdminCommands
from chassis.background.outbox import messages
from tests.emails.accounts import columns_of
from userservice.users import registration
from userservice.users.messages import VERIFICATION_REQUESTED

ADA = {"email": "ada@example.com", "name": "Eve wants money", "password": "correct horse battery"}


def topics(database):
    with database.connection() as connection:
        return sorted(connection.scalars(select(messages.c.topic)))


def test_registration_sends_a_link_beside_the_welcome(client, mails):
    client.post("/users", json=ADA)

    sent = {mail.document["template"]: mail for mail in mails.deliver()}
    welcome, verify = sent["welcome"], sent["verify_email"]

    assert (welcome.to, verify.to, len(sent)) == (ADA["email"], ADA["email"], 2)
    assert list(verify.document["variables"]) == ["link"]


def test_both_messages_are_stored_with_the_user_or_not_at_all(client, database, monkeypatch):
    def break_off(*_args):
        raise RuntimeError

    monkeypatch.setattr("userservice.users.queries.insert_user", break_off)

    assert client.post("/users", json=ADA).status_code == 500
    assert topics(database) == []


def test_a_registration_that_is_repeated_asks_once(client, database):
    for _ in range(2):
        client.post("/users", json=ADA, headers={"Idempotency-Key": "a"})

    assert topics(database) == [VERIFICATION_REQUESTED, registration.USER_REGISTERED]


def test_where_nothing_is_set_registration_sends_the_welcome_alone(off_app, services, mails):
    seen = []

    @event.listens_for(services.database.engine, "do_execute")
    def note(_cursor, statement, _values, _context):
        seen.append(statement)

    off_app.test_client().post("/users", json=ADA)

    inserts = [each for each in seen if "INSERT" in each]
    assert len(inserts) == (2 if services.database.is_sqlite else 1)
    assert mails.sent() == [("welcome", ADA["email"])]


def test_a_user_who_asks_gets_a_link(ada, mails):
    response = ada.ask_to_verify()

    assert (response.status_code, response.data) == (202, b"")
    assert mails.sent() == [("verify_email", ada.email)]


def test_where_the_address_is_verified_nothing_is_mailed(ada, mails):
    ada.ask_to_verify()
    ada.confirm(mails.link())

    response = ada.ask_to_verify()

    assert (response.status_code, response.data) == (204, b"")
    assert mails.sent() == []


def test_a_link_that_waits_is_not_mailed_once_the_address_is_verified(ada, mails):
    ada.ask_to_verify()
    token = mails.link()
    ada.ask_to_verify()
    ada.confirm(token)

    assert mails.sent() == []


def test_each_try_mails_the_same_link(ada, mails, database):
    ada.ask_to_verify()
    first = mails.link()
    with database.connection() as connection:
        connection.execute(messages.update().values(status="queued"))

    assert mails.link() == first


def test_a_superuser_of_an_operator_is_verified(config, services):
    user = AdminCommands(config, services).create_superuser("Root@Example.com", ADA["password"])

    verified, key = columns_of(services.database, user.id, "verified_key", "mailbox_key")
    assert (verified, key) == ("root@example.com", "root@example.com")


def test_a_new_user_is_not(client, database):
    user_id = client.post("/users", json=ADA).json["id"]

    assert columns_of(database, UUID(user_id), "verified_key") == (None,)


def test_without_a_page_nothing_is_mailed_and_the_reason_is_kept(ada, services, mails, database):
    services.links._page = ""  # noqa: SLF001 - as in production where neither address is set

    ada.ask_to_verify()

    assert mails.sent() == []
    with database.connection() as connection:
        [reason] = connection.scalars(select(messages.c.last_error))
    assert reason == "ACCOUNT_URL and PUBLIC_URL are not set"


def test_of_a_user_who_is_gone_nobody_is_asked(ada, mails, service_client):
    ada.ask_to_verify()
    service_client.delete(f"/users/{ada.id}")

    assert mails.sent() == []


def test_the_events_are_logged_and_counted_without_addresses(ada, mails, client, caplog):
    caplog.set_level("INFO")
    before = counted(client)
    ada.ask_to_verify()
    ada.confirm(mails.link())
    ada.change("ada@lovelace.example")
    ada.confirm(mails.link())
    mails.deliver()

    said = [each.msg for each in caplog.records if each.name == "userservice.emails.reports"]
    assert said == [
        "E-mail address verified",
        "Change of e-mail address requested",
        "E-mail address changed",
    ]
    assert "ada@" not in caplog.text
    assert "lovelace" not in caplog.text
    grown = {name: value - before[name] for name, value in counted(client).items()}
    assert grown == {"requested": 1, "changed": 1, "verified": 1}


def counted(client):
    text = client.get("/metrics").text
    found = re.findall(r'^email_events_total\{event="(\w+)"\} (\S+)$', text, re.MULTILINE)
    return {name: float(value) for name, value in found}
