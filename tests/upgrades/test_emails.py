"""Addresses during a rollout and after a rollback: the release before knows no confirmation."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select

from app import create_app
from bootstrap import open_backing_services
from chassis.background.outbox import messages
from chassis.security import PasswordHasher
from config import AppConfig
from tests.emails.accounts import Account, Mails, columns_of
from tests.support.factories import make_user
from tests.support.provider import MailProvider
from tests.upgrades import statements
from tests.upgrades.record import KEY
from userservice.users.messages import CHANGE_REQUESTED, EMAIL_CHANGED, VERIFICATION_REQUESTED

pytestmark = pytest.mark.integration

FILE = Path(__file__).resolve().parent / "0007.sql"
PASSWORD = "correct horse battery"
NEW = "ada@lovelace.example"
NEWER = "countess@lovelace.example"


@pytest.fixture
def provider():
    fake = MailProvider()
    yield fake
    fake.close()


@pytest.fixture
def services(postgresql_url, provider):
    config = configure(postgresql_url, email_service_url=provider.url)
    opened = replace(
        open_backing_services(config), hasher=PasswordHasher(memory_kib=8, time_cost=1)
    )
    yield opened
    opened.close()


@pytest.fixture
def client(postgresql_url, services):
    return create_app(configure(postgresql_url), services).test_client()


@pytest.fixture
def ada(client, services, mails):
    account = Account(client, make_user(services.database, password=PASSWORD), PASSWORD)
    mails.drop()
    return account


@pytest.fixture
def mails(services, provider):
    return Mails(services, provider)


def configure(url, **settings):
    """Configure a service that has addresses confirmed."""
    return AppConfig(
        database_url=url,
        redis_url="",
        api_key=KEY["X-API-Key"],
        rate_limit_enabled=False,
        email_verification="optional",
        public_url="https://example.com",
        **settings,
    )


def patch_as_before(services, user_id, email):
    """Change an address as a pod of the release before does, by the statement it was recorded with.

    What it sets for a PATCH of the name is recorded; for one of the address the other columns are.
    """
    recorded = next(
        line for line in FILE.read_text(encoding="utf-8").splitlines() if "SET name=" in line
    )
    columns = ", ".join(f"{name}='{email}'" for name in ("email", "mailbox_key", "email_key"))
    statement = re.sub("name='[^']*'", columns, recorded, count=1)
    statement = re.sub(r"users\.id = '[^']*'", f"users.id = '{user_id}'", statement).rstrip(";")
    with services.database.connection() as connection:
        assert connection.exec_driver_sql(statement).rowcount == 1


def is_verified(services, account):
    verified, key = columns_of(services.database, account.id, "verified_key", "mailbox_key")
    return verified is not None and verified == key


def test_an_address_that_the_release_before_changes_is_unverified(ada, mails, services):
    ada.ask_to_verify()
    ada.confirm(mails.link())
    was_verified = is_verified(services, ada)

    patch_as_before(services, ada.id, NEW)

    assert was_verified
    assert not is_verified(services, ada)
    assert ada.ask_to_verify().status_code == 202
    assert mails.sent() == [("verify_email", NEW)]


def test_links_of_before_do_not_hold_for_an_address_that_the_release_before_changed(ada, mails):
    ada.ask_to_verify()
    verifying = mails.link()
    ada.change(NEWER)
    moving = mails.link()

    patch_as_before(mails.services, ada.id, NEW)

    assert [ada.confirm(each).status_code for each in (verifying, moving)] == [400, 400]
    assert ada.read().json["email"] == NEW


def test_a_link_that_moved_the_account_is_not_followed_again_after_the_release_before_moved_it(
    ada, mails, services
):
    ada.change(NEWER)
    token = mails.link()
    ada.confirm(token)

    patch_as_before(services, ada.id, NEW)

    assert ada.confirm(token).status_code == 400


def test_after_a_rollback_a_change_can_be_asked_for_anew(ada, mails, services):
    ada.change(NEWER)
    mails.link()
    patch_as_before(services, ada.id, NEW)

    ada.change(NEWER)
    response = ada.confirm(mails.link())

    assert response.status_code == 204
    assert ada.read().json["email"] == NEWER
    assert is_verified(services, ada)


def test_users_from_before_are_asked_for_nothing(client, services, provider):
    with services.database.transaction() as connection:
        assert statements.replay(connection, FILE, until="DELETE") > 10
    provider.attempts.clear()

    Mails(services, provider).deliver()
    assert client.get("/users", headers=KEY).status_code == 200

    assert {mail.document["template"] for mail in provider.attempts} <= {"welcome"}
    with services.database.connection() as connection:
        topics = set(connection.scalars(select(messages.c.topic)))
    assert not topics & {VERIFICATION_REQUESTED, CHANGE_REQUESTED, EMAIL_CHANGED}
