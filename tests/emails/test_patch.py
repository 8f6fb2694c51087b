"""PATCH /users/{id}: users do not move their own account by a token; administrators may."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import event, select

from chassis.background.outbox import messages
from tests.conftest import API_KEY, make_app
from tests.emails.accounts import columns_of
from tests.support.factories import bearer_of, make_user

NEW = "ada@lovelace.example"


def patch(caller, account, document, **options):
    return caller.patch(f"/users/{account.id}", json=document, **options)


@pytest.mark.parametrize("mode", ["off", "optional"])
@pytest.mark.parametrize(
    "document",
    [{"email": NEW}, {"email": NEW, "name": "Eve"}, {"email": "ada@example.com"}],
    ids=["another", "with a name", "the same"],
)
def test_a_users_own_address_is_refused_in_every_mode(ada, app, off_app, mode, document):
    client = (off_app if mode == "off" else app).test_client()

    response = patch(client, ada, document, headers=ada.bearer)

    assert (response.status_code, response.json["code"]) == (403, "confirmation_required")
    assert ada.read().json["email"] == ada.email
    assert ada.read().headers["ETag"] == '"1"'


def test_a_user_changes_the_name_as_before(ada):
    response = patch(ada.client, ada, {"name": "Countess"}, headers=ada.bearer)

    assert (response.status_code, response.json["name"]) == (200, "Countess")


def test_administrators_may(ada, service_client, superuser):
    by_key = patch(service_client, ada, {"email": "first@example.com"})
    by_superuser = patch(ada.client, ada, {"email": NEW}, headers=superuser)

    assert (by_key.status_code, by_superuser.status_code) == (200, 200)
    assert ada.read().json["email"] == NEW


def test_an_administrators_change_is_logged_without_the_address(ada, service_client, caplog):
    caplog.set_level("INFO")

    patch(service_client, ada, {"email": NEW})

    [record] = [each for each in caplog.records if each.name == "userservice.users.service"]
    assert record.msg == "E-mail address changed by an administrator"
    assert record.user_id == str(ada.id)
    assert NEW not in caplog.text


def test_a_superusers_own_address_needs_the_password_as_that_of_any_user(client, config, database):
    superuser = make_user(database, is_superuser=True)
    headers = bearer_of(database, config, superuser)

    response = client.patch(f"/users/{superuser.id}", json={"email": NEW}, headers=headers)

    assert (response.status_code, response.json["code"]) == (403, "confirmation_required")


def test_an_address_that_an_administrator_changed_is_unverified(
    ada, mails, service_client, database
):
    ada.ask_to_verify()
    ada.confirm(mails.link())

    patch(service_client, ada, {"email": NEW})

    verified, key = columns_of(database, ada.id, "verified_key", "mailbox_key")
    assert (verified, key) == (ada.email, NEW)
    assert ada.ask_to_verify().status_code == 202


def test_an_administrators_change_voids_links_and_what_is_pending(
    ada, mails, service_client, database
):
    ada.change("first@example.com")
    token = mails.link()

    patch(service_client, ada, {"email": NEW})

    assert columns_of(database, ada.id, "pending_email") == (None,)
    assert ada.confirm(token).status_code == 400


def test_a_change_of_the_name_keeps_links_and_what_is_pending(ada, mails, service_client):
    ada.change(NEW)
    token = mails.link()

    patch(service_client, ada, {"name": "Countess"})

    assert ada.confirm(token).status_code == 204


# The notice to the former address


def payloads(database):
    with database.connection() as connection:
        return connection.scalars(select(messages.c.payload)).all()


def test_the_former_address_is_told_after_a_confirmation(ada, mails):
    ada.change(NEW)
    ada.confirm(mails.link())

    (mail,) = mails.deliver()

    assert (mail.to, mail.document["template"]) == (ada.email, "email_changed")
    assert mail.document["variables"] == {}


def test_the_former_address_is_told_after_an_administrators_change(ada, mails, service_client):
    patch(service_client, ada, {"email": NEW, "name": "Countess"})

    assert mails.sent() == [("email_changed", ada.email)]


def test_the_former_address_is_told_after_a_change_at_once(ada, config, services, mails):
    off = make_app(replace(config, email_verification="off"), services).test_client()

    ada.change(NEW, client=off)

    assert mails.sent() == [("email_changed", ada.email)]


@pytest.mark.parametrize(
    "document", [{"name": "Countess"}, {"email": "ADA@Example.com"}, {"email": "ada@example.com"}]
)
def test_where_the_mailbox_stays_nobody_is_told(ada, mails, service_client, document):
    assert patch(service_client, ada, document).status_code == 200

    assert mails.sent() == []


def test_a_change_that_is_refused_tells_nobody(ada, mails, service_client, database):
    make_user(database, email="grace@example.com")
    mails.drop()

    taken = patch(service_client, ada, {"email": "grace@example.com"})
    stale = patch(service_client, ada, {"email": NEW}, headers={"If-Match": '"7"'})

    assert (taken.status_code, stale.status_code) == (409, 412)
    assert payloads(database) == []


def test_the_former_address_is_the_only_one_in_a_payload_until_the_message_is_settled(
    ada, mails, service_client, database
):
    patch(service_client, ada, {"email": NEW})

    before = payloads(database)
    mails.deliver()

    user_id = {"user_id": str(ada.id)}
    assert before == [{**user_id, "private": {"former": ada.email}}]
    assert payloads(database) == [user_id]


def test_an_erasure_removes_the_former_address_before_it_was_told(
    ada, mails, service_client, database
):
    patch(service_client, ada, {"email": NEW})

    erased = service_client.delete(f"/users/{ada.id}?erase=now")

    assert erased.status_code == 204
    assert payloads(database) == []
    assert mails.sent() == []


def test_a_notice_that_was_given_up_cannot_be_tried_again(ada, mails, service_client, database):
    patch(service_client, ada, {"email": NEW})
    mails.deliver()
    with database.connection() as connection:
        connection.execute(messages.update().values(status="queued"))

    assert mails.sent() == []
    with database.connection() as connection:
        [row] = connection.execute(select(messages)).all()
    assert (row.status, row.last_error) == ("skipped", "The former address is gone")


def test_where_nothing_is_set_an_administrators_change_is_one_statement_and_no_mail(
    ada, off_app, services, mails
):
    seen = []

    @event.listens_for(services.database.engine, "do_execute")
    def note(_cursor, statement, _values, _context):
        seen.append(statement)

    response = patch(off_app.test_client(), ada, {"email": NEW}, headers={"X-API-Key": API_KEY})

    assert response.status_code == 200
    # With its row in the audit trail; SQLite takes both in a transaction.
    one = ["BEGIN", "UPDATE", "INSERT"] if services.database.is_sqlite else ["WITH"]
    assert [each.split()[0] for each in seen] == one
    assert mails.sent() == []
