"""Services ask whether a token holds, and learn that alone about one that does not."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import jwt
import pytest
from authlib.integrations.requests_client import OAuth2Session
from sqlalchemy import event, update

from chassis.http.web import MAX_BODY_BYTES
from tests.conftest import API_KEY, make_app
from tests.support.factories import begin_log_in, make_user
from tests.support.forgeries import FORGERIES, NEXT, OURS, Forger
from tests.support.keys import key_header, make_key
from tests.support.signing import rsa_key, signing
from userservice import SERVICE_NAME
from userservice.privacy import service as privacy
from userservice.scopes import Scope
from userservice.standing import service as standing
from userservice.tokens.service import revoke
from userservice.users import service as users
from userservice.users.addresses import mailbox_key
from userservice.users.models import User

PATH = "/auth/introspect"
INACTIVE = b'{"active":false}'
BY_OTHERS = {"client_id": SERVICE_NAME}
SIGNERS = {
    "HS256": ({}, {}),
    "ES256": (signing(), BY_OTHERS),
    "RS256": (signing(rsa_key()), BY_OTHERS),
}
ROLES = [f"{number:02}{'r' * 62}" for number in range(16)]


@pytest.fixture
def signed(config):
    return replace(config, **signing(OURS, token_signing_key_next=NEXT))


@pytest.fixture
def service(signed, services):
    return calling(signed, services)


@pytest.fixture
def user(database):
    return make_user(database)


@pytest.fixture
def pair(database, signed, user):
    return begin_log_in(database, signed, user)


def calling(config, services):
    """Return a service that calls a replica with this configuration."""
    client = make_app(config, services).test_client()
    client.environ_base["HTTP_X_API_KEY"] = API_KEY
    return client


def ask(client, token):
    return client.post(PATH, data={"token": token})


def assert_inactive(response):
    assert (response.status_code, response.data) == (200, INACTIVE)
    assert response.content_type == "application/json"


def change(database, user, **values):
    with database.connection() as connection:
        connection.execute(update(User).where(User.id == user.id).values(**values))


@pytest.mark.parametrize("signer", SIGNERS)
def test_a_token_that_holds_is_active_with_its_claims_and_no_name_or_address(
    config, services, database, user, signer
):
    settings, further = SIGNERS[signer]
    changed = replace(config, **settings)
    token = begin_log_in(database, changed, user).access_token
    claims = jwt.decode(token, options={"verify_signature": False})

    response = ask(calling(changed, services), token)

    assert response.status_code == 200
    assert response.json == {
        **{name: claims[name] for name in ("iss", "aud", "sub", "exp", "iat", "jti", "sid")},
        **further,
        "active": True,
        "token_type": "Bearer",
        "roles": [],
        "email_verified": False,
    }
    assert response.headers["Cache-Control"] == "no-store"
    assert user.email not in response.text


def test_a_token_that_names_no_log_in_is_active_without_one(config, services, user):
    """Tokens of releases before had no `sid`."""
    forge = Forger(config, begin_log_in(services.database, config, user).access_token)
    del forge.claims["sid"]

    answer = ask(calling(config, services), forge.with_secret()).json

    assert (answer["active"], answer["sub"]) == (True, str(user.id))
    assert "sid" not in answer


def test_roles_and_the_address_are_those_of_now(service, database, user, pair):
    change(database, user, roles=["editor"], verified_key=mailbox_key(user.email))

    answer = ask(service, pair.access_token).json

    assert (answer["roles"], answer["email_verified"]) == (["editor"], True)


def test_a_forged_token_is_inactive(service, signed, pair):
    forge = Forger(signed, pair.access_token)

    told = {name: ask(service, make(forge)).data for name, make in FORGERIES.items()}

    assert told == dict.fromkeys(FORGERIES, INACTIVE)
    assert_inactive(ask(service, FORGERIES["none"](forge)))


ENDINGS = {
    "log-out": lambda on, _user, pair: revoke(on, pair.refresh_token),
    "suspension": lambda on, user, _: standing.suspend(on, user.id, None),
    "deletion": lambda on, user, _: users.delete_user(on, user.id),
    "erasure": lambda on, user, _: privacy.erase(on, user.id),
}


@pytest.mark.parametrize("end", ENDINGS.values(), ids=ENDINGS.keys())
def test_a_token_whose_log_in_has_ended_is_inactive_at_once(service, database, user, pair, end):
    assert ask(service, pair.access_token).json["active"] is True

    end(database, user, pair)

    assert_inactive(ask(service, pair.access_token))


NO_TOKENS = ["a", "a.b.c", "..", "\0", "é.ü.ß", "{}", "Bearer a", "a" * (MAX_BODY_BYTES - 10)]


@pytest.mark.parametrize("token", NO_TOKENS, ids=lambda text: text[:10])
def test_a_text_that_is_no_token_is_inactive(service, token):
    assert_inactive(ask(service, token))


def test_links_are_inactive(service, services, user):
    link = services.links.make("reset", user.id, user.email, made_at=datetime.now(UTC))

    assert_inactive(ask(service, link))


@pytest.mark.parametrize("hint", ["refresh_token", "access_token", "something_else"])
def test_a_refresh_token_is_inactive_living_or_not_and_goes_on(service, pair, hint):
    form = {"token": pair.refresh_token, "token_type_hint": hint}

    living = service.post(PATH, data=form)
    renewed = service.post(
        "/auth/token", data={"grant_type": "refresh_token"} | {"refresh_token": pair.refresh_token}
    )

    assert_inactive(living)
    assert renewed.status_code == 200
    assert_inactive(service.post(PATH, data=form))


def test_a_token_with_all_that_it_may_hold_is_read_whole(config, services, database, user):
    changed = replace(config, **signing(rsa_key(4096)))
    change(database, user, roles=ROLES)
    issuer_log_in = begin_log_in(database, changed, user)
    service = calling(changed, services)
    form = {"grant_type": "refresh_token", "refresh_token": issuer_log_in.refresh_token}

    token = service.post("/auth/token", data=form).json["access_token"]

    assert len(token) > 2000
    assert ask(service, token).json["roles"] == ROLES


def statements(services, work):
    seen = []

    def note(_cursor, statement, _values, _context):
        seen.append(statement)

    event.listen(services.database.engine, "do_execute", note)
    work()
    event.remove(services.database.engine, "do_execute", note)
    return seen


def test_a_token_costs_one_statement_and_a_text_that_is_none_costs_none(service, services, pair):
    ask(service, pair.access_token)  # opens a connection, which is asked for its settings

    assert len(statements(services, lambda: ask(service, pair.access_token))) == 1
    assert statements(services, lambda: ask(service, pair.access_token[:-2])) == []


def test_users_may_not_ask_superusers_included(signed, services, database, pair):
    root = begin_log_in(database, signed, make_user(database, is_superuser=True))
    client = make_app(signed, services).test_client()

    for caller in (pair, root):
        headers = {"Authorization": f"Bearer {caller.access_token}"}
        response = client.post(PATH, data={"token": pair.access_token}, headers=headers)
        assert response.status_code == 403
        assert response.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("scope", Scope)
def test_a_key_needs_the_scope_for_it(client, database, scope):
    headers = key_header(make_key(database, scope))

    response = client.post(PATH, data={"token": "a"}, headers=headers)

    assert response.status_code == (200 if scope is Scope.TOKENS_INTROSPECT else 403)


@pytest.mark.parametrize(
    "options",
    [
        {"data": {}},
        {"data": {"token": ""}},
        {"data": {"token": ["a", "a"]}},
        {"json": {"token": "a"}},
        {"data": b"token=a"},
        {"query_string": {"token": "a"}},
    ],
    ids=["none", "empty", "two", "json", "no type", "query"],
)
def test_a_request_without_exactly_one_token_in_a_form_is_refused(service, options):
    response = service.post(PATH, **options)

    assert response.status_code == 400
    assert response.json["error"] == "invalid_request"
    assert response.headers["Cache-Control"] == "no-store"


def test_the_token_stands_in_no_log_line(service, pair, caplog):
    with caplog.at_level("DEBUG"):
        ask(service, pair.access_token)
        ask(service, pair.access_token[:-2])

    assert pair.access_token[:-2] not in caplog.text


@pytest.mark.integration
def test_a_standard_client_asks(serve):
    web = serve()
    url = str(web.client.base_url)
    user = {"email": "ada@example.com", "name": "Ada", "password": "correct horse battery"}
    made = web.client.post("/users", json=user).json()
    session = OAuth2Session(token_endpoint=f"{url}/auth/token", client_id="any")
    token = session.fetch_token(username=user["email"], password=user["password"])

    found = session.introspect_token(
        f"{url}{PATH}", token=token["access_token"], headers={"X-API-Key": API_KEY}
    )

    assert found.json()["active"] is True
    assert found.json()["sub"] == made["id"]
