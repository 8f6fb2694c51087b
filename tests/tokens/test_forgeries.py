"""Tokens that a thief of a published key, or of less, could make: none of them holds."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from chassis.settings.signing_keys import load_key
from tests.conftest import make_app
from tests.support.factories import begin_log_in, make_user
from tests.support.forgeries import FORGERIES, NEXT, OURS, Forger
from tests.support.signing import AUDIENCE, ISSUER, signing
from userservice import SERVICE_NAME


@pytest.fixture
def user(database):
    return make_user(database)


@pytest.fixture
def signed(config):
    return replace(config, **signing(OURS, token_signing_key_next=NEXT))


@pytest.fixture
def forge(database, signed, user):
    return Forger(signed, begin_log_in(database, signed, user).access_token)


@pytest.fixture
def client(signed, services):
    return make_app(signed, services).test_client()


def status(client, token):
    headers = {"Authorization": f"Bearer {token}"}
    return client.get("/users/me", headers=headers).status_code


def test_a_token_that_holds_is_what_the_forged_ones_differ_from(client, forge):
    other = forge(key=NEXT, algorithm="RS256", header={"kid": load_key(NEXT).key_id})
    long_type = forge(header={"typ": "application/AT+JWT"})

    assert [status(client, each) for each in (forge.token, forge(), other, long_type)] == [200] * 4
    assert status(client, forge(aud=SERVICE_NAME)) == 200


@pytest.mark.parametrize("make", FORGERIES.values(), ids=FORGERIES.keys())
def test_a_forged_token_is_refused_like_no_token(client, forge, make):
    response = client.get("/users/me", headers={"Authorization": f"Bearer {make(forge)}"})

    assert response.status_code == 401
    assert response.json["detail"] == client.get("/users/me").json["detail"]


def test_a_link_is_no_token(client, services, user):
    for purpose in ("reset", "verify"):
        token = services.links.make(purpose, user.id, user.email, made_at=datetime.now(UTC))

        assert status(client, token) == 401


def test_names_change_with_the_key_alone(services, forge):
    """Tokens of the secret keep their names, though an issuer is configured for keys."""
    published = replace(forge.config, token_signing_key="", token_signing_key_next=OURS)
    client = make_app(published, services).test_client()

    assert status(client, forge.with_secret()) == 200
    assert status(client, forge.with_secret(iss=ISSUER)) == 401
    assert status(client, forge.with_secret(iss=ISSUER, aud=[SERVICE_NAME, AUDIENCE])) == 401
    assert status(client, forge(iss=SERVICE_NAME, aud=SERVICE_NAME)) == 401
