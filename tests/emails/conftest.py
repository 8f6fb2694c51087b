"""A service that has addresses confirmed, its e-mails, and a user who is logged in."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bootstrap import make_mailer
from tests.conftest import make_app
from tests.emails.accounts import Account, Mails
from tests.support.factories import bearer_of, make_user

PASSWORD = "correct horse battery"


@pytest.fixture
def config(config):
    """As an operator sets it who wants addresses confirmed."""
    return replace(config, email_verification="optional", public_url="https://example.com")


@pytest.fixture
def services(config, services, provider):
    """The attached resources, the e-mail provider among them."""
    mailer = make_mailer(replace(config, email_service_url=provider.url))
    yield replace(services, mailer=mailer)
    mailer.close()


@pytest.fixture
def superuser(config, database):
    """The header of a superuser."""
    return bearer_of(database, config, make_user(database, is_superuser=True))


@pytest.fixture
def off_app(config, services):
    """The web application of an operator who has set nothing new."""
    return make_app(replace(config, email_verification="off", public_url=""), services)


@pytest.fixture
def mails(services, provider):
    """The e-mails that leave."""
    return Mails(services, provider)


@pytest.fixture
def make_account(database, client):
    """Call that registers a user and logs in."""

    def make(email, **values):
        user = make_user(database, email=email, password=PASSWORD, **values)
        return Account(client, user, PASSWORD)

    return make


@pytest.fixture
def ada(make_account, mails):
    """A user without messages that wait."""
    account = make_account("ada@example.com")
    mails.drop()
    return account
