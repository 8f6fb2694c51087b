"""Tokens that a thief of a published key, or of less, could make: none of them holds."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from chassis.access_tokens import _key_id
from chassis.settings.signing_keys import load_key
from tests.conftest import make_app
from tests.support.factories import begin_log_in, make_user
from tests.support.forgeries import FORGERIES, NEXT, OURS, STRANGE, Forger, swap_header
from tests.support.signing import AUDIENCE, ISSUER, public_pem, signing
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


def test_a_forged_token_is_refused_like_any_text(client, forge):
    def refusal(token):
        response = client.get("/users/me", headers={"Authorization": f"Bearer {token}"})
        return response.status_code, response.json["detail"]

    refused = {name: refusal(make(forge)) for name, make in FORGERIES.items()}

    status, detail = refusal("a")
    assert status == 401
    assert refused == dict.fromkeys(FORGERIES, (status, detail))


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


# While both hold: the secret's names and the key's never mix.
MIXED = {
    "the secret under the names of the key": lambda forge, _: forge.with_secret(
        iss=ISSUER, aud=[SERVICE_NAME, AUDIENCE]
    ),
    "the secret by the name of the key": lambda forge, _: forge.with_secret(
        header={"kid": load_key(OURS).key_id, "typ": "at+jwt"}
    ),
    "the key by the name of the secret": lambda forge, secret: forge(header={"kid": secret}),
    "the key by the name of the secret, and under its names": lambda forge, secret: forge(
        header={"kid": secret, "typ": "JWT"}, iss=SERVICE_NAME, aud=SERVICE_NAME
    ),
    "the key under the names of the secret": lambda forge, _: forge(
        iss=SERVICE_NAME, aud=SERVICE_NAME
    ),
    "the public PEM by the name of the secret": lambda forge, secret: forge.confused(
        public_pem(OURS), kid=secret
    ),
    "alg of the key on a token of the secret": lambda forge, _: swap_header(
        forge.with_secret(), alg="ES256"
    ),
    "alg of the secret on a token of the key": lambda forge, _: swap_header(
        forge.token, alg="HS256"
    ),
}


@pytest.mark.parametrize("make", MIXED.values(), ids=MIXED.keys())
def test_a_secret_that_holds_beside_a_key_does_not_mix_with_it(config, services, user, make):
    both = replace(config, **signing(OURS, token_signing_key_previous="HS256"))
    forge = Forger(both, begin_log_in(services.database, both, user).access_token)
    client = make_app(both, services).test_client()
    secret = _key_id(both.jwt_secret)

    assert [status(client, each) for each in (forge.token, forge.with_secret())] == [200, 200]
    assert status(client, make(forge, secret)) == 401


ELSEWHERE = {
    "another key": signing(STRANGE),
    "another issuer with the same key": signing(OURS, token_issuer="https://id.staging.example"),
    "the issuer in other letters": signing(OURS, token_issuer=ISSUER.replace("id", "ID")),
    "the issuer with a port": signing(OURS, token_issuer=f"{ISSUER}:443"),
    "a path below the issuer": signing(OURS, token_issuer=f"{ISSUER}/a"),
    "a secret": {"jwt_secret": "a secret of thirty-two bytes, at least"},
}


@pytest.mark.parametrize("settings", ELSEWHERE.values(), ids=ELSEWHERE.keys())
def test_a_token_of_another_environment_is_refused_even_for_a_log_in_of_this_one(
    config, services, user, client, settings
):
    """As if its database were a copy of ours: user and log-in are the same."""
    foreign = replace(config, **settings)
    token = begin_log_in(services.database, foreign, user).access_token

    assert status(make_app(foreign, services).test_client(), token) == 200
    assert status(client, token) == 401
