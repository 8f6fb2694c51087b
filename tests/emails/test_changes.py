"""POST /users/{id}/email: another address, asked for with the password."""

from __future__ import annotations

import re

import pytest
from sqlalchemy import event, select, update

from chassis.background.outbox import messages
from tests.emails.accounts import columns_of
from tests.support.factories import make_user
from userservice.users import service
from userservice.users.queries import users

NEW = "ada@lovelace.example"


def pending(database, account):
    [email] = columns_of(database, account.id, "pending_email")
    return email


def test_the_old_address_stays_in_force_until_the_new_one_is_confirmed(ada, mails):
    response = ada.change(NEW)

    assert (response.status_code, response.data) == (202, b"")
    assert ada.read().json["email"] == ada.email
    assert ada.log_in(ada.email).status_code == 200
    assert ada.log_in(NEW).status_code == 400
    assert mails.sent() == [("change_email", NEW)]


def test_the_link_stands_behind_the_hash_and_the_mail_holds_no_other_text(ada, mails):
    ada.change(NEW)

    (mail,) = mails.deliver()

    assert list(mail.document["variables"]) == ["link"]
    link = mail.document["variables"]["link"]
    assert re.fullmatch(r"https://example\.com/account#[\w.~-]+", link)


def test_a_wrong_password_changes_nothing(ada, mails, database):
    response = ada.change(NEW, password="not the password")

    assert (response.status_code, response.json["code"]) == (403, "wrong_password")
    assert pending(database, ada) is None
    assert mails.sent() == []


@pytest.mark.parametrize("rest", ["email", "email/verification"])
def test_nobody_but_the_user_may(ada, rest, service_client, superuser, make_account):
    path = f"/users/{ada.id}/{rest}"
    document = {"email": NEW, "current_password": ada.password}
    another = make_account("eve@example.com").bearer

    statuses = [
        service_client.post(path, json=document).status_code,
        *(
            ada.client.post(path, json=document, headers=headers).status_code
            for headers in (superuser, another, None)
        ),
    ]

    assert statuses == [403, 403, 403, 401]


@pytest.mark.parametrize(
    ("document", "pointer"),
    [
        ({"email": "no address", "current_password": "x"}, "/email"),
        ({"current_password": "x"}, "/email"),
        ({"email": NEW}, "/current_password"),
        ({"email": NEW, "current_password": None}, "/current_password"),
        ({"email": NEW, "current_password": "x" * 1025}, "/current_password"),
    ],
)
def test_a_wish_that_breaks_a_rule_is_refused(ada, document, pointer):
    response = ada.client.post(f"/users/{ada.id}/email", json=document, headers=ada.bearer)

    assert response.status_code == 400
    assert response.json["errors"][0]["pointer"] == pointer


def test_where_another_has_the_address_the_answer_is_the_same_and_nothing_is_mailed_to_it(
    ada, mails, database
):
    make_user(database, email="grace@example.com")
    mails.drop()

    free, taken = ada.change(NEW), ada.change("GRACE@example.com")

    assert (taken.status_code, taken.data) == (free.status_code, free.data) == (202, b"")
    assert set(taken.headers.keys()) == set(free.headers.keys())
    assert mails.sent() == []


def test_where_another_has_the_address_the_statements_are_the_same(ada, services):
    make_user(services.database, email="grace@example.com")
    seen = []

    @event.listens_for(services.database.engine, "do_execute")
    def note(_cursor, statement, _values, _context):
        seen.append(statement)

    ada.change(NEW)
    free = list(seen)
    seen.clear()
    ada.change("grace@example.com")

    assert free
    assert seen == free


def test_the_outbox_holds_no_address(ada, database):
    ada.change(NEW)

    with database.connection() as connection:
        [payload] = connection.scalars(select(messages.c.payload)).all()
    assert payload.pop("private").keys() == {"mailbox"}  # a digest, while the message waits
    assert payload == {"user_id": str(ada.id)}


def test_a_new_change_replaces_the_one_before(ada, mails, database):
    ada.change("first@example.com")
    first = mails.link()
    ada.change("second@example.com")
    second = mails.link()

    refused, moved = ada.confirm(first), ada.confirm(second)

    assert (refused.status_code, refused.json["code"]) == (400, "invalid_token")
    assert moved.status_code == 204
    assert ada.read().json["email"] == "second@example.com"
    assert pending(database, ada) is None


def test_an_address_that_nobody_waits_for_any_more_gets_no_mail(ada, mails, database):
    ada.change(NEW)
    with database.connection() as connection:
        connection.execute(update(users).values(pending_email=None))

    assert mails.sent() == []


def test_a_user_who_was_deleted_meanwhile_gets_no_mail(ada, mails, database):
    ada.change(NEW)
    ada.ask_to_verify()
    service.delete_user(database, ada.id)

    assert mails.sent() == []


def test_the_etag_moves_with_the_address_and_not_with_the_wish(ada, mails):
    before = ada.read().headers["ETag"]
    ada.change(NEW)
    asked = ada.read().headers["ETag"]

    ada.confirm(mails.link())

    assert (before, asked, ada.read().headers["ETag"]) == ('"1"', '"1"', '"2"')


def test_another_spelling_is_confirmed_like_any_other_address_and_announced_to_nobody(ada, mails):
    ada.change("Ada@Example.com")

    assert ada.confirm(mails.link()).status_code == 204
    assert ada.read().json["email"] == "Ada@Example.com"
    assert mails.sent() == []


# With EMAIL_VERIFICATION=off


def test_without_confirmation_the_address_changes_at_once(ada, off_app, mails, database):
    response = ada.change(NEW, client=off_app.test_client())

    assert (response.status_code, response.data) == (204, b"")
    assert ada.read().json["email"] == NEW
    assert ada.read().headers["ETag"] == '"2"'
    assert ada.log_in(NEW).status_code == 200
    assert columns_of(database, ada.id, "verified_key", "pending_email") == (None, None)
    assert mails.sent() == []


def test_without_confirmation_an_address_that_another_has_is_refused(ada, off_app, database):
    make_user(database, email="grace@example.com")

    response = ada.change("Grace@example.com", client=off_app.test_client())

    assert (response.status_code, response.json["code"]) == (409, "email_taken")
    assert ada.read().json["email"] == ada.email


def test_without_confirmation_the_password_is_needed_all_the_same(ada, off_app):
    response = ada.change(NEW, password="not the password", client=off_app.test_client())

    assert (response.status_code, response.json["code"]) == (403, "wrong_password")
    assert ada.read().json["email"] == ada.email


def test_a_change_at_once_voids_links_and_what_is_pending(ada, off_app, mails):
    ada.change("first@example.com")
    first = mails.link()

    ada.change(NEW, client=off_app.test_client())

    assert ada.confirm(first).status_code == 400
    assert ada.read().json["email"] == NEW


def test_an_export_does_not_tell_whether_another_user_has_an_address(
    ada, make_account, service_client, mails
):
    grace = make_account("grace@example.com")
    mails.drop()
    for wish in (grace.email, "nobody@example.com"):
        ada.change(wish)
        mails.deliver()
    path = f"/users/{ada.id}/export"

    own = ada.client.get(path, headers=ada.bearer).json
    whole = service_client.get(path).json

    assert own["messages"] == []
    assert [each["status"] for each in whole["messages"]] == ["skipped", "sent"]
