"""The order of a switch: the keys that sign, and those that hold, at each of its steps."""

from __future__ import annotations

from dataclasses import replace

import jwt
import pytest
from sqlalchemy import event, update

from chassis.settings.signing_keys import load_key
from tests.conftest import make_app
from tests.support.factories import make_user
from tests.support.signing import AUDIENCE, ISSUER, NAMES, ec_key, rsa_key, signing
from userservice import SERVICE_NAME
from userservice.users.addresses import mailbox_key
from userservice.users.queries import users

PASSWORD = "correct horse battery"
OLD, NEW, THIRD = ec_key(0), ec_key(1), rsa_key()
CLAIMS = {"iss", "aud", "sub", "exp", "iat", "jti", "client_id", "sid", "roles", "email_verified"}
# The steps of a switch, each with the settings of all replicas once it is rolled out.
STEPS = {
    "secret": {},
    "published": NAMES | {"token_signing_key_next": OLD},
    "signing": signing(OLD, token_signing_key_previous="HS256"),
    "dropped": signing(OLD),
    "next published": signing(OLD, token_signing_key_next=NEW),
    "next signing": signing(NEW, token_signing_key_previous=OLD),
    "next dropped": signing(NEW),
    "another algorithm published": signing(NEW, token_signing_key_next=THIRD),
    "another algorithm signing": signing(THIRD, token_signing_key_previous=NEW),
}
BACK = {
    "signing": signing(OLD, token_signing_key_previous="HS256"),
    "published": NAMES | {"token_signing_key_next": OLD},
    "secret": {},
}


@pytest.fixture
def user(database):
    return make_user(database, password=PASSWORD)


@pytest.fixture
def replica(config, services):
    """Make a client of a replica with these settings."""

    def make(settings):
        return make_app(replace(config, **settings), services).test_client()

    return make


def log_in(client, user):
    form = {"grant_type": "password", "username": user.email, "password": PASSWORD}
    return client.post("/auth/token", data=form).json


def status(client, token):
    headers = {"Authorization": f"Bearer {token}"}
    return client.get("/users/me", headers=headers).status_code


def claims_of(token):
    return jwt.decode(token, options={"verify_signature": False})


def neighbours(steps):
    return list(zip(steps, list(steps)[1:], strict=False))


@pytest.mark.parametrize(
    ("steps", "before", "after"),
    [(each, *pair) for each in (STEPS, BACK) for pair in neighbours(each)],
)
def test_a_token_of_either_side_of_a_step_holds_on_both(replica, user, steps, before, after):
    replicas = [replica(steps[before]), replica(steps[after])]
    tokens = [log_in(each, user)["access_token"] for each in replicas]

    statuses = [status(each, token) for each in replicas for token in tokens]

    assert statuses == [200] * 4


@pytest.mark.parametrize(
    ("issuing", "reading"),
    [
        ("secret", "dropped"),
        ("published", "dropped"),
        ("secret", "next published"),
        ("signing", "next dropped"),
        ("next published", "next dropped"),
        ("dropped", "secret"),
    ],
)
def test_a_token_of_a_key_that_is_no_longer_given_does_not_hold(replica, user, issuing, reading):
    token = log_in(replica(STEPS[issuing]), user)["access_token"]

    assert status(replica(STEPS[reading]), token) == 401


def test_no_secret_holds_once_a_key_signs_alone(replica, user):
    tokens = [
        log_in(replica(each), user)["access_token"]
        for each in ({}, {"jwt_secret": "a secret of thirty-two bytes, at least"})
    ]
    client = replica(
        signing(jwt_secret_previous="a secret of thirty-two bytes, at least")  # as operators may
    )

    assert [status(client, each) for each in tokens] == [401, 401]


def test_the_secret_signs_as_ever_while_a_key_is_only_published(replica, user):
    token = log_in(replica(STEPS["published"]), user)["access_token"]

    claims = claims_of(token)
    assert claims.keys() == {"iss", "aud", "sub", "exp", "iat", "jti", "sid"}
    assert claims["iss"] == claims["aud"] == SERVICE_NAME
    header = jwt.get_unverified_header(token)
    assert list(header) == list(
        jwt.get_unverified_header(log_in(replica({}), user)["access_token"])
    )
    assert (header["alg"], header["typ"]) == ("HS256", "JWT")


@pytest.mark.parametrize(("key", "algorithm"), [(OLD, "ES256"), (THIRD, "RS256")])
def test_a_token_of_a_key_says_what_rfc_9068_asks_for_and_no_name_or_address(
    replica, user, key, algorithm
):
    token = log_in(replica(signing(key)), user)["access_token"]

    claims = claims_of(token)
    assert claims.keys() == CLAIMS
    assert claims["iss"] == ISSUER
    assert claims["aud"] == [SERVICE_NAME, AUDIENCE]
    assert claims["sub"] == str(user.id)
    assert claims["exp"] - claims["iat"] == 900
    assert claims["client_id"] == SERVICE_NAME
    assert (claims["roles"], claims["email_verified"]) == ([], False)
    assert jwt.get_unverified_header(token) == {
        "alg": algorithm,
        "kid": load_key(key).key_id,
        "typ": "at+jwt",
    }
    assert user.email not in str(claims)
    assert user.name not in str(claims)


@pytest.mark.parametrize("audience", ["", SERVICE_NAME])
def test_the_own_name_is_an_audience_once(replica, user, audience):
    token = log_in(replica(signing(token_audience=audience)), user)["access_token"]

    assert claims_of(token)["aud"] == [SERVICE_NAME]


def change(database, user, **values):
    with database.connection() as connection:
        connection.execute(update(users).where(users.c.id == user.id).values(**values))


def test_roles_and_the_address_are_those_of_the_user_when_the_token_is_made(
    replica, database, user
):
    client = replica(signing())
    change(database, user, roles=["editor"], verified_key=mailbox_key(user.email))

    first = log_in(client, user)
    change(database, user, roles=["editor", "admin:shop"], email=f"x{user.email}")
    form = {"grant_type": "refresh_token", "refresh_token": first["refresh_token"]}
    second = client.post("/auth/token", data=form).json
    again = client.post("/auth/token", data=form).json

    told = [
        (claims["roles"], claims["email_verified"])
        for claims in (claims_of(each["access_token"]) for each in (first, second, again))
    ]
    assert told == [(["editor"], True), *[(["editor", "admin:shop"], False)] * 2]


def count_statements(services, work):
    statements = []

    def note(_connection, _cursor, statement, *_):
        statements.append(statement)

    engine = services.database.engine
    event.listen(engine, "before_cursor_execute", note)
    work()
    event.remove(engine, "before_cursor_execute", note)
    return len(statements)


def test_what_tokens_tell_costs_no_further_statement(replica, services, user):
    counts = []
    for client in (replica({}), replica(signing())):
        first = log_in(client, user)
        form = {"grant_type": "refresh_token", "refresh_token": first["refresh_token"]}

        counts.append(
            (
                count_statements(services, lambda each=client: log_in(each, user)),
                count_statements(
                    services,
                    lambda each=client, given=form: each.post("/auth/token", data=given),
                ),
            )
        )

    assert counts[0] == counts[1]
    assert min(counts[0]) > 1
