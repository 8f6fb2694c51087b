"""POST /auth/email/confirm: a link moves or verifies the account of its user, and no other."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from threading import Barrier

import pytest
from sqlalchemy import update

from bootstrap import make_links
from tests.emails.accounts import columns_of
from tests.support.factories import make_user
from tests.support.waiting import DEADLINE_SECONDS
from userservice.users import links
from userservice.users.links import Purpose
from userservice.users.queries import users

NEW = "ada@lovelace.example"


def is_verified(database, account):
    verified, key = columns_of(database, account.id, "verified_key", "mailbox_key")
    return verified is not None and verified == key


def refusal(response):
    return response.status_code, response.json["code"], response.json["detail"]


def test_a_confirmed_address_is_in_force_and_verified(ada, mails, database):
    ada.change(NEW)

    response = ada.confirm(mails.link())

    assert (response.status_code, response.data) == (204, b"")
    assert response.headers["Cache-Control"] == "no-store"
    assert ada.read().json["email"] == NEW
    assert is_verified(database, ada)
    assert ada.log_in(NEW).status_code == 200
    assert ada.log_in(ada.email).status_code == 400


def test_a_link_verifies_the_address_in_force_and_may_be_followed_again(ada, mails, database):
    ada.ask_to_verify()
    token = mails.link()

    statuses = [ada.confirm(token).status_code for _ in range(2)]

    assert statuses == [204, 204]
    assert is_verified(database, ada)
    assert ada.read().headers["ETag"] == '"1"'


def test_a_link_that_moved_the_account_may_be_followed_again_until_something_else_changes(
    ada, make_account, mails, service_client
):
    ada.change(NEW)
    token = mails.link()
    eve = make_account("eve@example.com")

    again = [ada.confirm(token).status_code for _ in range(3)]
    other = token[:-1] + ("A" if token[-1] != "A" else "E")
    others = [eve.confirm(token).status_code, ada.confirm(other).status_code]
    service_client.patch(f"/users/{ada.id}", json={"email": ada.email})

    assert again == [204, 204, 204]
    assert others == [400, 400]
    assert ada.confirm(token).status_code == 400
    assert ada.read().json["email"] == ada.email


@pytest.mark.parametrize("wish", ["verify", "change"])
def test_a_strangers_click_moves_and_verifies_nothing(ada, make_account, mails, database, wish):
    eve = make_account("eve@example.com")
    mails.drop()
    ada.change(NEW) if wish == "change" else ada.ask_to_verify()
    token = mails.link()

    response = eve.confirm(token)
    anonymous = ada.client.post("/auth/email/confirm", json={"token": token})

    assert refusal(response)[:2] == (400, "invalid_token")
    assert anonymous.status_code == 401
    assert not is_verified(database, ada)
    assert not is_verified(database, eve)
    assert ada.read().json["email"] == ada.email
    assert eve.read().json["email"] == eve.email
    assert ada.confirm(token).status_code == 204


def test_a_key_names_no_user_whose_link_it_could_be(ada, mails, service_client):
    ada.ask_to_verify()

    response = service_client.post("/auth/email/confirm", json={"token": mails.link()})

    assert response.status_code == 403


def test_all_that_does_not_hold_is_refused_alike(ada, mails, services):
    ada.change(NEW)
    token, now = mails.link(), datetime.now(UTC)
    _, reset = links.make_link(services, Purpose.RESET, ada.id, now)
    later = token.replace(token.split(".")[2], str(int(token.split(".")[2]) + 1))
    bad = [reset, later, token[:-4], token.swapcase(), "", "x" * 1000, "é"]

    refusals = {refusal(ada.confirm(each)) for each in bad}

    assert len(refusals) == 1
    assert refusals.pop()[:2] == (400, "invalid_token")
    assert ada.read().json["email"] == ada.email
    assert ada.confirm(token).status_code == 204


def test_an_expired_link_does_not_hold(ada, config, services, mails):
    ada.change(NEW)
    _, holder = links.check_link(services, mails.link(), Purpose.CHANGE)
    bound, now = (NEW, holder.email, str(holder.stamp)), datetime.now(UTC)
    made = make_links(replace(config, email_token_seconds=60))

    statuses = [
        ada.confirm(made.make(Purpose.CHANGE, ada.id, *bound, made_at=each)).status_code
        for each in (now - timedelta(minutes=2), now)
    ]

    assert statuses == [400, 204]


def test_an_address_that_came_back_is_not_moved_by_a_link_of_before(ada, mails, service_client):
    ada.change(NEW)
    token = mails.link()
    for email in ("other@example.com", ada.email):
        service_client.patch(f"/users/{ada.id}", json={"email": email})

    assert ada.confirm(token).status_code == 400
    assert ada.read().json["email"] == ada.email


def test_a_link_that_verifies_an_address_verifies_no_other(ada, mails, service_client, database):
    ada.ask_to_verify()
    token = mails.link()
    service_client.patch(f"/users/{ada.id}", json={"email": NEW})

    assert ada.confirm(token).status_code == 400
    assert not is_verified(database, ada)


def test_an_address_taken_by_now_keeps_the_old_one_and_clears_what_is_pending(ada, mails, database):
    ada.change(NEW)
    token = mails.link()
    make_user(database, email=NEW)

    response, again = ada.confirm(token), ada.confirm(token)

    assert refusal(response)[:2] == (409, "email_taken")
    assert refusal(again)[:2] == (400, "invalid_token")
    assert ada.read().json["email"] == ada.email
    assert columns_of(database, ada.id, "pending_email", "verified_key") == (None, None)


def test_of_two_users_who_confirm_one_address_at_once_one_gets_it(
    app, make_account, mails, database
):
    for _ in range(5):
        with database.connection() as connection:
            connection.execute(update(users).values(status="deleted"))
        both = [make_account(f"{name}@example.com") for name in ("ada", "grace")]
        mails.drop()
        tokens = []
        for each in both:
            each.change(NEW)
            tokens.append(mails.link())
        barrier = Barrier(2)

        def confirm(number, both=both, tokens=tokens, barrier=barrier):
            barrier.wait(DEADLINE_SECONDS)
            return app.test_client().post(
                "/auth/email/confirm", json={"token": tokens[number]}, headers=both[number].bearer
            )

        with ThreadPoolExecutor(2) as threads:
            statuses = [each.status_code for each in threads.map(confirm, range(2))]

        assert sorted(statuses) == [204, 409]
        assert [each.read().json["email"] == NEW for each in both] == [
            status == 204 for status in statuses
        ]


def test_of_many_equal_confirmations_at_once_one_moves(app, ada, mails):
    ada.change(NEW)
    token, barrier = mails.link(), Barrier(8)

    def confirm(_number):
        barrier.wait(DEADLINE_SECONDS)
        return app.test_client().post(
            "/auth/email/confirm", json={"token": token}, headers=ada.bearer
        )

    with ThreadPoolExecutor(8) as threads:
        statuses = [each.status_code for each in threads.map(confirm, range(8))]

    assert set(statuses) == {204}
    assert ada.read().headers["ETag"] == '"2"'
    assert mails.sent() == [("email_changed", "ada@example.com")]
