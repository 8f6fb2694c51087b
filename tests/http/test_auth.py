"""The rights of callers, and the worth of credentials."""

from __future__ import annotations

import base64
import hmac
import json
import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from sqlalchemy import update

from app import make_token_issuer
from chassis.access_tokens import AccessTokens, _key_id
from chassis.errors import Unauthenticated
from chassis.http.auth import Guard, requires
from chassis.security import same_secret
from tests.conftest import API_KEY, make_app
from tests.support.databases import ONE_DATABASE
from tests.support.factories import ADA, bearer_of, make_user
from tests.support.routes import access_to
from userservice.users import service
from userservice.users.models import User

ISSUER = "cloudnative-user-api"
STRANGE_ID = "01900000-0000-7000-8000-000000000000"
PASSWORD = "correct horse battery"
CALLERS = ("anonymous", "wrong key", "service", "self", "another", "superuser", "deleted")

# Route -> status for each caller, in the order of CALLERS.
MATRIX = {
    ("POST", "/users"): (201, 401, 201, 201, 201, 201, 401),
    ("GET", "/users"): (401, 401, 200, 403, 403, 200, 401),
    ("GET", "/users/me"): (401, 401, 403, 200, 200, 200, 401),
    ("HEAD", "/users/me"): (401, 401, 403, 200, 200, 200, 401),
    ("GET", "/users/{id}"): (401, 401, 200, 200, 403, 200, 401),
    ("HEAD", "/users/{id}"): (401, 401, 200, 200, 403, 200, 401),
    ("PATCH", "/users/{id}"): (401, 401, 200, 200, 403, 200, 401),
    ("DELETE", "/users/{id}"): (401, 401, 204, 204, 403, 204, 401),
    ("POST", "/users/import"): (401, 401, 415, 403, 403, 415, 401),
    ("GET", "/users/export"): (401, 401, 200, 403, 403, 200, 401),
    ("GET", "/users/{id}/sessions"): (401, 401, 200, 200, 403, 200, 401),
    ("HEAD", "/users/{id}/sessions"): (401, 401, 200, 200, 403, 200, 401),
    ("DELETE", "/users/{id}/sessions"): (401, 401, 403, 204, 403, 403, 401),
    ("DELETE", "/users/{id}/sessions?keep=current"): (401, 401, 403, 204, 403, 403, 401),
    ("DELETE", "/users/{id}/sessions/{id}"): (401, 401, 404, 404, 403, 404, 401),
    ("POST", "/users/{id}/email"): (401, 401, 403, 400, 403, 403, 401),
    ("POST", "/users/{id}/email/verification"): (401, 401, 403, 202, 403, 403, 401),
    ("POST", "/auth/email/confirm"): (401, 401, 403, 415, 415, 415, 401),
    ("GET", "/users/{id}/account"): (401, 401, 200, 200, 403, 200, 401),
    ("HEAD", "/users/{id}/account"): (401, 401, 200, 200, 403, 200, 401),
    ("PUT", "/users/{id}/suspension"): (401, 401, 204, 403, 403, 204, 401),
    ("DELETE", "/users/{id}/suspension"): (401, 401, 204, 403, 403, 204, 401),
    ("PUT", "/users/{id}/superuser"): (401, 401, 403, 403, 403, 400, 401),
    ("DELETE", "/users/{id}/superuser"): (401, 401, 403, 403, 403, 204, 401),
    ("PUT", "/users/{id}/roles"): (401, 401, 400, 403, 403, 400, 401),
    ("GET", "/users/{id}/export"): (401, 401, 200, 200, 403, 200, 401),
    ("HEAD", "/users/{id}/export"): (401, 401, 200, 200, 403, 200, 401),
    ("DELETE", "/users/{id}?erase=now"): (401, 401, 204, 403, 403, 204, 401),
    ("PUT", "/users/{id}/password"): (401, 401, 403, 400, 403, 403, 401),
    ("POST", "/users/{id}/recovery"): (401, 401, 202, 403, 403, 202, 401),
    ("GET", "/audit"): (401, 401, 200, 403, 403, 200, 401),
    ("HEAD", "/audit"): (401, 401, 200, 403, 403, 200, 401),
    ("POST", "/api-keys"): (401, 401, 415, 403, 403, 415, 401),
    ("GET", "/api-keys"): (401, 401, 200, 403, 403, 200, 401),
    ("HEAD", "/api-keys"): (401, 401, 200, 403, 403, 200, 401),
    ("DELETE", "/api-keys/{key}"): (401, 401, 404, 403, 403, 404, 401),
    ("GET", "/jobs/{id}"): (401, 401, 404, 403, 403, 404, 401),
    ("DELETE", "/jobs/{id}"): (401, 401, 404, 403, 403, 404, 401),
    ("GET", "/metrics"): (200,) * 7,
    ("POST", "/auth/token"): (400,) * 7,
    ("POST", "/auth/revoke"): (400,) * 7,
    ("POST", "/auth/introspect"): (401, 401, 400, 403, 403, 403, 401),
    ("POST", "/auth/password/forgot"): (415,) * 7,
    ("POST", "/auth/password/reset"): (415,) * 7,
    ("GET", "/.well-known/jwks.json"): (404,) * 7,
    ("GET", "/.well-known/openid-configuration"): (404,) * 7,
    ("GET", "/.well-known/oauth-authorization-server"): (404,) * 7,
    ("GET", "/health"): (200,) * 7,
    ("GET", "/ready"): (200,) * 7,
    ("GET", "/version"): (200,) * 7,
    ("GET", "/openapi.json"): (200,) * 7,
    ("GET", "/"): (302,) * 7,
    ("GET", "/docs/"): (302,) * 7,
    ("GET", "/docs"): (200,) * 7,
    ("GET", "/docs/<asset>"): (404,) * 7,
    ("GET", "/problems/<name>"): (404,) * 7,
    ("GET", "/account"): (200,) * 7,
    ("GET", "/account/"): (302,) * 7,
    ("GET", "/account/<asset>"): (404,) * 7,
}
CLOSED = {("POST", "/users"): (401, 401, 201, 403, 403, 201, 401)}
BODIES = {"PATCH": {"name": "Countess"}, "PUT": {}}


@pytest.fixture
def issuer(config):
    return make_token_issuer(config)


@pytest.fixture
def user(database):
    return make_user(database)


@pytest.fixture
def credentials_of(database, config):
    """Call that returns the headers of a caller; users who are not the one given are made."""

    def credentials_of(caller, user):
        match caller:
            case "anonymous":
                return {}
            case "wrong key":
                return {"X-API-Key": "wrong"}
            case "service":
                return {"X-API-Key": API_KEY}
            case "self":
                by = user
            case _:
                by = make_user(database, is_superuser=caller == "superuser")
        headers = bearer_of(database, config, by)
        if caller == "deleted":
            service.delete_user(database, by.id)
        return headers

    return credentials_of


@pytest.fixture
def credentials(credentials_of, user):
    """Caller -> headers."""
    return {caller: credentials_of(caller, user) for caller in CALLERS}


@dataclass(frozen=True)
class Forger:
    """Makes tokens that hold, but for what a test says."""

    key: str
    header: dict[str, str]
    subject: str

    def __call__(self, *, key=None, algorithm="HS256", header=None, **claims):
        now = datetime.now(UTC)
        valid = {
            "iss": ISSUER,
            "aud": ISSUER,
            "sub": self.subject,
            "iat": now,
            "exp": now + timedelta(minutes=5),
            "jti": uuid4().hex,
        }
        return jwt.encode(
            present(valid | claims),
            key or self.key,
            algorithm,
            headers=present({"kid": self.header["kid"]} | (header or {})),
        )


def present(members):
    return {name: value for name, value in members.items() if value is not None}


@pytest.fixture
def forge(config, issuer, user):
    header = jwt.get_unverified_header(issuer.access_tokens.issue(user.id, uuid4()))
    return Forger(config.jwt_secret, header, str(user.id))


@pytest.fixture
def statuses(client, database, credentials_of):
    """Call that returns the answers of a route to all callers, each about a user of its own."""

    def statuses(method, path):
        users = ((caller, make_user(database)) for caller in CALLERS)
        return tuple(
            call(client, method, path, credentials_of(caller, user), user).status_code
            for caller, user in users
        )

    return statuses


def call(client, method, path, headers, user):
    new = ADA | {"email": f"{uuid4().hex}@example.com"}
    body = (BODIES | {"POST": new}).get(method) if path.startswith("/users") else None
    return client.open(
        path.format(id=user.id, key=user.id.hex), method=method, headers=headers, json=body
    )


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def without_ids(response):
    return response.json | {"request_id": None, "trace_id": None}


# A guard decides about a caller, without the database; the caller alone is read from there.
@ONE_DATABASE
@pytest.mark.parametrize("route", MATRIX, ids=" ".join)
def test_each_caller_may_do_what_the_table_says(statuses, route):
    assert statuses(*route) == MATRIX[route]


def test_callers_are_the_same_on_every_database(app, statuses):
    """The first route of each guard shows it."""
    routes = {access_to(app, route).guard: route for route in reversed(MATRIX)}

    assert set(routes) == set(Guard)
    assert {each: statuses(*each) for each in routes.values()} == {
        each: MATRIX[each] for each in routes.values()
    }


@pytest.mark.parametrize("caller", CALLERS)
def test_registration_can_be_left_to_administrators(config, services, credentials, user, caller):
    app = make_app(replace(config, registration="authenticated"), services)

    response = call(app.test_client(), "POST", "/users", credentials[caller], user)

    assert response.status_code == CLOSED["POST", "/users"][CALLERS.index(caller)]


def test_the_table_leaves_no_route_out(app):
    routes = {
        (method, re.sub("<hex:key_id>", "{key}", re.sub("<uuid:[a-z_]+>", "{id}", rule.rule)))
        for rule in app.url_map.iter_rules()
        for method in rule.methods - {"OPTIONS", "HEAD"}
    }

    assert routes <= set(MATRIX)


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
@pytest.mark.parametrize("caller", ["service", "superuser"])
def test_a_deleted_user_is_not_found(client, credentials, user, method, caller):
    call(client, "DELETE", "/users/{id}", credentials["service"], user)

    response = call(client, method, "/users/{id}", credentials[caller], user)

    assert response.status_code == 404


def test_what_a_refused_caller_wanted_to_change_stays(database, client, credentials, user):
    for method in ("PATCH", "DELETE"):
        call(client, method, "/users/{id}", credentials["another"], user)

    assert service.get_user(database, user.id) == user


def test_a_superuser_who_is_none_any_more_is_a_user(database, client, config):
    superuser = make_user(database, is_superuser=True)
    headers = bearer_of(database, config, superuser)
    with database.connection() as connection:
        connection.execute(update(User).where(User.id == superuser.id).values(is_superuser=False))

    assert client.get("/users", headers=headers).status_code == 403


def test_a_forbidden_caller_is_not_asked_for_other_credentials(client, credentials):
    response = client.get("/users", headers=credentials["self"])

    assert response.status_code == 403
    assert response.json["code"] == "forbidden"
    assert "WWW-Authenticate" not in response.headers


def rs256_key_pair():
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return private, public


def raw(header, claims, signature=b""):
    """Put a token together that no library would make."""
    parts = (json.dumps(header).encode(), json.dumps(claims).encode(), signature)
    return b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts).decode()


def past():
    return datetime.now(UTC) - timedelta(seconds=1)


def ahead(seconds):
    return datetime.now(UTC) + timedelta(seconds=seconds)


UNVERIFIED: Any = {"verify_signature": False}


def unkeyed(forge):
    """Sign with the empty key, under the name that this key would have."""
    signed, _, _ = forge(header={"kid": _key_id("")}).rpartition(".")
    signature = base64.urlsafe_b64encode(hmac.digest(b"", signed.encode(), "sha256"))
    return f"{signed}.{signature.decode().rstrip('=')}"


BAD_TOKENS = {
    "expired": lambda forge: forge(exp=past()),
    "issued 40 s ahead": lambda forge: forge(iat=ahead(40)),
    "valid 40 s from now": lambda forge: forge(nbf=ahead(40)),
    "not issued yet": lambda forge: forge(iat=datetime.now(UTC) + timedelta(hours=1)),
    "wrong audience": lambda forge: forge(aud="another-service"),
    "wrong issuer": lambda forge: forge(iss="another-service"),
    "wrong key": lambda forge: forge(key="another key of at least 32 bytes"),
    "empty key": unkeyed,
    "no name of a key": lambda forge: forge(key="x", header={"kid": ""}),
    "another algorithm of the family": lambda forge: forge(algorithm="HS512"),
    "no subject": lambda forge: forge(sub=None),
    "no expiry": lambda forge: forge(exp=None),
    "no id": lambda forge: forge(jti=None),
    "no audience": lambda forge: forge(aud=None),
    "no issuer": lambda forge: forge(iss=None),
    "a subject that is no id": lambda forge: forge(sub="' OR 1=1 --"),
    "a subject that is nobody": lambda forge: forge(sub=str(uuid4())),
    "kid missing": lambda forge: forge(header={"kid": None}),
    "kid unknown": lambda forge: forge(header={"kid": "unknown"}),
    "kid a path": lambda forge: forge(header={"kid": "../../../../dev/null"}),
    "kid SQL": lambda forge: forge(header={"kid": "' UNION SELECT 'x"}),
    "kid a list": lambda forge: raw(forge.header | {"kid": ["a"]}, {}),
    "kid an object": lambda forge: raw(forge.header | {"kid": {}}, {}),
    "alg none": lambda forge: raw(forge.header | {"alg": "none"}, claims_for_nobody()),
    "alg None": lambda forge: raw(forge.header | {"alg": "None"}, claims_for_nobody()),
    "alg RS256, signed with a key of its own": lambda forge: forge(
        key=rs256_key_pair()[0], algorithm="RS256"
    ),
    "header nested without end": lambda _: (
        base64.urlsafe_b64encode(b"[" * 3000).decode() + ".e30.e30"
    ),
    "truncated": lambda forge: forge()[:-1],
    "signature dropped": lambda forge: forge().rpartition(".")[0] + ".",
    "two parts": lambda forge: forge().rpartition(".")[0],
    "padded": lambda forge: forge() + "====",
    "another behind it": lambda forge: f"{forge()} {forge()}",
    "not ASCII": lambda _: "é.ü.ß",
    "empty": lambda _: "",
}


def claims_for_nobody():
    now = int(datetime.now(UTC).timestamp())
    return {
        "iss": ISSUER,
        "aud": ISSUER,
        "sub": str(uuid4()),
        "iat": now,
        "exp": now + 300,
        "jti": "a",
    }


@pytest.fixture
def refusal(client):
    """The answer to a caller without credentials."""
    response = client.get("/users/me")
    assert response.status_code == 401
    return response


CHALLENGE = 'Bearer realm="cloudnative-user-api"'
INVALID_TOKEN = ', error="invalid_token", error_description="The access token is not valid"'


BAD_TOKEN = "Access token is not valid"
BAD_KEY = "API key is not valid"
BAD_SCHEME = "Authorization must begin with Bearer; an API key goes into X-API-Key"


def told_by(response):
    """Return all that a refusal tells, but for ids."""
    return (
        response.status_code,
        response.headers["WWW-Authenticate"],
        response.content_type,
        without_ids(response),
        set(response.headers.keys()),
    )


def refusal_of(text, refusal):
    """Return a refusal that says which credentials came along, for people, and no more.

    RFC 6750 has programs learn it of tokens.
    """
    status, challenge, content_type, document, headers = told_by(refusal)
    assert (status, challenge, content_type) == (401, CHALLENGE, "application/problem+json")
    texts = dict.fromkeys(("title", "detail", "error"), text)
    challenge += INVALID_TOKEN * (text == BAD_TOKEN)
    return status, challenge, content_type, document | texts, headers


def assert_refusal_of(text, response, refusal):
    """Assert that a refusal is such a one."""
    assert told_by(response) == refusal_of(text, refusal)


def test_a_token_that_holds_is_what_the_forged_ones_differ_from(client, forge, user):
    response = client.get("/users/me", headers=bearer(forge()))

    assert response.status_code == 200
    assert response.json["id"] == str(user.id)


def test_a_token_that_does_not_hold_is_refused_like_all_others(client, forge, refusal):
    refused = {
        name: told_by(client.get("/users/me", headers=bearer(make(forge))))
        for name, make in BAD_TOKENS.items()
    }

    assert refused == dict.fromkeys(BAD_TOKENS, refusal_of(BAD_TOKEN, refusal))


def test_the_token_of_a_user_who_is_gone_is_no_token_any_more(
    client, database, forge, user, refusal
):
    service.delete_user(database, user.id)

    response = client.get("/users/me", headers=bearer(forge()))

    assert_refusal_of(BAD_TOKEN, response, refusal)


def test_two_tokens_of_a_user_have_different_ids(issuer, user):
    tokens = [issuer.access_tokens.issue(user.id, uuid4()) for _ in range(2)]

    assert len({jwt.decode(each, options=UNVERIFIED)["jti"] for each in tokens}) == 2


def test_a_refresh_token_opens_nothing(client, database, refusal):
    user = make_user(database, password=PASSWORD)
    form = {"grant_type": "password", "username": user.email, "password": PASSWORD}
    refresh_token = client.post("/auth/token", data=form).json["refresh_token"]

    response = client.get("/users/me", headers=bearer(refresh_token))

    assert_refusal_of(BAD_TOKEN, response, refusal)


@pytest.mark.parametrize(
    ("headers", "text"),
    [
        ({"Authorization": "Basic YWRhOnNlY3JldA=="}, BAD_SCHEME),
        ({"Authorization": ""}, BAD_SCHEME),
        ({"Authorization": API_KEY}, BAD_SCHEME),
        ({"Authorization": "Bearer"}, BAD_TOKEN),
        ({"Authorization": "Bearer "}, BAD_TOKEN),
        ({"Authorization": "Bearer" + " " * 100 + "a"}, BAD_TOKEN),
        ({"X-API-Key": ""}, BAD_KEY),
        ({"X-API-Key": API_KEY[:-1]}, BAD_KEY),
        ({"X-API-Key": API_KEY + " x"}, BAD_KEY),
        ({"X-API-Key": API_KEY.upper()}, BAD_KEY),
        ({"X-API-Key": "sch\xfcssel"}, BAD_KEY),
        ({"X-API-Key": "a" * 8000}, BAD_KEY),
    ],
    ids=str,
)
def test_credentials_that_are_none_are_refused_alike(client, headers, text, refusal):
    response = client.get("/users/me", headers=headers)

    assert_refusal_of(text, response, refusal)


def test_a_scheme_is_known_in_any_case(client, forge):
    headers = {"Authorization": f"bEARER {forge()}"}

    assert client.get("/users/me", headers=headers).status_code == 200


def test_a_wrong_key_is_not_made_good_by_a_token(client, forge):
    headers = bearer(forge()) | {"X-API-Key": "wrong"}

    assert client.get("/users/me", headers=headers).status_code == 401


def test_wrong_credentials_are_refused_even_where_none_are_needed(client, database):
    response = client.post("/users", json=ADA, headers={"X-API-Key": "wrong"})

    assert response.status_code == 401
    assert service.count_users(database)["active"] == 0


def test_without_an_api_key_none_is_accepted(config, services):
    client = make_app(replace(config, api_key=""), services).test_client()

    for given in ("", "None", API_KEY):
        assert client.get("/users", headers={"X-API-Key": given}).status_code == 401


def test_a_public_key_is_no_secret_to_sign_with():
    """RS256 confusion: whoever knows a public key must not be able to sign with it."""
    private, public = rs256_key_pair()
    tokens = AccessTokens(public.decode(), issuer=ISSUER, lifetime=timedelta(minutes=1))
    kid = {"kid": _key_id(public.decode())}
    token = jwt.encode(claims_for_nobody(), private, "RS256", headers=kid)

    with pytest.raises(Unauthenticated):
        tokens.read(token)


@pytest.mark.parametrize(
    "member", [{"is_superuser": True}, {"id": STRANGE_ID}, {"status": "deleted"}], ids=str
)
def test_members_that_are_not_the_callers_to_set_are_ignored_in_a_registration(
    client, database, config, member
):
    response = client.post("/users", json=ADA | member)

    assert response.status_code == 201
    assert response.json["id"] != member.get("id")
    assert response.json["status"] == "active"
    user = service.get_user(database, UUID(response.json["id"]))
    headers = bearer_of(database, config, user)
    assert client.get("/users", headers=headers).status_code == 403


@pytest.mark.parametrize(
    "member",
    [
        {"is_superuser": True},
        {"id": STRANGE_ID},
        {"status": "deleted"},
        {"created_at": "2020-01-01T00:00:00Z"},
        {"password_hash": "x"},
        {"version": 7},
    ],
    ids=str,
)
@pytest.mark.parametrize("caller", ["self", "superuser", "service"])
def test_members_that_cannot_be_changed_are_refused_in_a_patch(
    client, credentials, user, member, caller
):
    before = call(client, "GET", "/users/{id}", credentials["self"], user)

    response = client.patch(
        f"/users/{user.id}", json={"name": "New"} | member, headers=credentials[caller]
    )

    assert response.status_code == 400
    assert response.json["errors"][0]["pointer"] == f"/{next(iter(member))}"
    after = call(client, "GET", "/users/{id}", credentials["self"], user)
    assert (after.data, after.headers["ETag"]) == (before.data, before.headers["ETag"])


def test_a_route_for_owners_that_names_no_user_lets_none_in(app, client, credentials):
    app.add_url_rule("/forgotten", view_func=requires(Guard.OWNER, "things:read")(lambda: "in"))

    statuses = {
        caller: client.get("/forgotten", headers=credentials[caller]).status_code
        for caller in ("self", "superuser", "service")
    }

    assert statuses == {"self": 403, "superuser": 200, "service": 200}


def test_secrets_are_compared_whole():
    assert same_secret("key", "key")
    assert not same_secret("key", "keys")
    assert not same_secret("", "")
    assert not same_secret("schlüssel", "schlussel")


@pytest.mark.parametrize("claim", ["iat", "nbf"])
def test_a_token_of_a_replica_whose_clock_is_ahead_is_accepted(client, forge, claim):
    token = forge(**{claim: ahead(20)})

    assert client.get("/users/me", headers=bearer(token)).status_code == 200
