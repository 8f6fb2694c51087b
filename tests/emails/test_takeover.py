"""Somebody registers another person's address: its owner takes the account over, for good."""

from __future__ import annotations

from uuid import UUID

import pytest

from tests.emails.accounts import Account, columns_of
from userservice.users.service import get_user

VICTIM, SQUATTER = "victim@example.com", "squatter@example.com"
PASSWORD, OWN = "the words of a squatter", "the words of the owner"


@pytest.fixture
def squatter(client, database, mails):
    """The account, and a log-in of the squatter, who waits for nobody."""
    document = {"email": VICTIM, "name": "Claim your prize", "password": PASSWORD}
    registered = client.post("/users", json=document)
    account = Account(client, get_user(database, UUID(registered.json["id"])), PASSWORD)
    sent = mails.deliver()
    assert {mail.to for mail in sent} == {VICTIM}
    return account


def recover(client, mails):
    """Do what the owner of the mailbox does, who never asked for an account."""
    assert client.post("/auth/password/forgot", json={"email": VICTIM}).status_code == 202
    [mail] = [each for each in mails.deliver() if each.to == VICTIM]
    assert mail.document["template"] == "reset_password"
    return mail.document["variables"]["link"].partition("#")[2]


def reset(client, token):
    return client.post("/auth/password/reset", json={"token": token, "new_password": OWN})


def statuses(client, pairs):
    """Return what access tokens and refresh tokens are answered."""
    for pair in pairs:
        headers = {"Authorization": f"Bearer {pair['access_token']}"}
        yield client.get("/users/me", headers=headers).status_code
        form = {"grant_type": "refresh_token", "refresh_token": pair["refresh_token"]}
        yield client.post("/auth/token", data=form).status_code


def test_nothing_that_a_squatter_has_works_after_the_owner_set_a_password(
    client, squatter, mails, database
):
    pairs = [squatter.tokens, *(squatter.log_in(VICTIM).json for _ in range(3))]
    squatter.change(SQUATTER)
    moving = mails.link()
    squatter.ask_to_verify()
    verifying = mails.link()  # went to the owner, and may have been seen on the way
    token = recover(client, mails)

    assert reset(client, token).status_code == 204

    assert set(statuses(client, pairs)) == {401, 400}
    assert squatter.log_in(VICTIM).status_code == 400
    assert reset(client, token).status_code == 400
    assert columns_of(database, squatter.id, "email", "pending_email") == (VICTIM, None)
    owner = Account(client, get_user(database, squatter.id), OWN)
    assert [owner.confirm(each).status_code for each in (moving, verifying)] == [400, 400]
    assert owner.read().json["email"] == VICTIM
    assert owner.ask_to_verify().status_code == 204  # the mailed reset has verified it


def test_a_wish_of_the_squatter_that_waits_in_the_outbox_is_mailed_to_nobody(
    client, squatter, mails
):
    token = recover(client, mails)
    squatter.change(SQUATTER)

    reset(client, token)

    assert SQUATTER not in {mail.to for mail in mails.deliver()}


def test_a_squatter_who_moves_on_before_the_owner_comes_leaves_the_address_free(
    client, squatter, mails
):
    squatter.change(SQUATTER)
    squatter.confirm(mails.link())

    assert mails.sent() == [("email_changed", VICTIM)]
    document = {"email": VICTIM, "name": "Ada", "password": OWN}
    assert client.post("/users", json=document).status_code == 201
    assert squatter.log_in(SQUATTER).status_code == 200


def test_a_squatter_who_moves_away_and_back_gains_nothing(client, squatter, mails, service_client):
    token = recover(client, mails)
    for email in (SQUATTER, VICTIM):
        service_client.patch(f"/users/{squatter.id}", json={"email": email})
    mails.drop()

    assert reset(client, token).status_code == 400
    assert reset(client, recover(client, mails)).status_code == 204
    assert squatter.read().status_code == 401
