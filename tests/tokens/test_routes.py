from __future__ import annotations

from dataclasses import replace

import jwt
import pytest
from authlib.integrations.base_client.errors import OAuthError
from authlib.integrations.requests_client import OAuth2Session

from chassis.http.web import MAX_BODY_BYTES
from tests.conftest import API_KEY, make_app
from tests.support.factories import ADA, make_user
from tests.support.web import serve
from userservice.tokens.errors import oauth_members

PASSWORD = "correct horse battery"
NEW_SECRET = "the secret that signs from now on, 32 bytes"
NOWHERE = "postgresql://app@127.0.0.1:1/app"
OLD_SECRET = "the secret that signed until just now, also"


@pytest.fixture
def user(database):
    return make_user(database, password=PASSWORD)


@pytest.fixture
def tokens(client, user):
    """The tokens in the answer to the user's log-in."""
    return log_in(client, user).json


def log_in(client, user, password=PASSWORD):
    form = {"grant_type": "password", "username": user.email, "password": password}
    return client.post("/auth/token", data=form)


def refresh(client, refresh_token):
    form = {"grant_type": "refresh_token", "refresh_token": refresh_token}
    return client.post("/auth/token", data=form)


def bearer(access_token):
    return {"Authorization": f"Bearer {access_token}"}


def assert_refused(response, error):
    """Assert what RFC 6749, section 5.2, says of an error, and what is ours."""
    assert response.status_code == 400
    assert response.content_type == "application/problem+json"
    assert response.headers["Cache-Control"] == "no-store"
    assert response.json["error"] == response.json["code"] == error
    assert response.json["error_description"] == response.json["detail"]


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/auth/token", 405, "method_not_allowed"),
        ("POST", "/auth/nothing", 404, "not_found"),
        ("POST", "/auth/revoke", 413, "content_too_large"),
        ("POST", "/auth/token", 413, "content_too_large"),
    ],
)
def test_an_error_of_http_itself_speaks_to_oauth_clients_too(client, method, path, status, code):
    response = client.open(path, method=method, data={"token": "a" * MAX_BODY_BYTES})

    assert response.status_code == status
    assert response.content_type == "application/problem+json"
    assert response.headers["Cache-Control"] == "no-store"
    assert response.json["code"] == code
    assert response.json["error"] == "invalid_request"  # the RFC knows no other code for these
    assert response.json["error_description"] == response.json["detail"]


def test_a_description_has_no_character_that_the_standard_leaves_out():
    members = oauth_members("invalid_grant", 'Say "zut" \\ \u00e9\n~')

    assert members == {"error": "invalid_grant", "error_description": "Say ?zut? ? ??~"}


def test_a_bug_at_the_token_endpoints_speaks_to_oauth_clients_too(client):
    @client.application.before_request
    def fail():
        raise ZeroDivisionError

    response = client.post("/auth/revoke", data={"token": "a"})

    assert response.status_code == 500
    assert response.json["error"] == response.json["code"] == "internal_error"
    assert response.json["error_description"] == "Internal server error"


def test_a_password_is_exchanged_for_tokens_that_nobody_may_keep(client, user):
    response = log_in(client, user)

    assert response.status_code == 200
    assert response.content_type == "application/json"
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["Pragma"] == "no-cache"
    assert set(response.json) == {"access_token", "token_type", "expires_in", "refresh_token"}
    assert response.json["token_type"] == "Bearer"
    assert response.json["expires_in"] == 900


def test_an_access_token_says_who_issued_it_for_whom_and_until_when(user, tokens):
    token = tokens["access_token"]

    claims = jwt.decode(token, options={"verify_signature": False})
    header = jwt.get_unverified_header(token)

    assert set(claims) == {"iss", "aud", "sub", "iat", "exp", "jti", "sid"}
    assert claims["iss"] == claims["aud"] == "cloudnative-user-api"
    assert claims["sub"] == str(user.id)
    assert claims["exp"] - claims["iat"] == 900
    assert header["alg"] == "HS256"
    assert header["kid"]


def test_an_access_token_opens_what_is_the_users(client, user, tokens):
    response = client.get("/users/me", headers=bearer(tokens["access_token"]))

    assert response.status_code == 200
    assert response.json["id"] == str(user.id)


def test_a_refresh_token_is_exchanged_for_new_tokens(client, tokens):
    response = refresh(client, tokens["refresh_token"])

    assert response.status_code == 200
    assert response.headers["Cache-Control"] == "no-store"
    assert response.json["refresh_token"] != tokens["refresh_token"]
    me = client.get("/users/me", headers=bearer(response.json["access_token"]))
    assert me.status_code == 200


def test_a_refresh_token_that_comes_back_ends_the_log_in(client, tokens):
    second = refresh(client, tokens["refresh_token"]).json
    third = refresh(client, second["refresh_token"]).json

    again = refresh(client, tokens["refresh_token"])

    assert_refused(again, "invalid_grant")
    assert_refused(refresh(client, third["refresh_token"]), "invalid_grant")
    me = client.get("/users/me", headers=bearer(third["access_token"]))
    assert me.status_code == 401


def test_an_unknown_address_and_a_wrong_password_read_the_same(client, user):
    wrong = log_in(client, user, "another one")
    unknown = log_in(client, user._replace(email="nobody@example.com"))

    assert_refused(wrong, "invalid_grant")
    assert wrong.status_code == unknown.status_code
    assert without_ids(wrong.json) == without_ids(unknown.json)
    assert set(wrong.headers.keys()) == set(unknown.headers.keys())


def test_a_user_without_password_cannot_log_in(client, database):
    assert_refused(log_in(client, make_user(database)), "invalid_grant")


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({}, "invalid_request"),
        ({"grant_type": ""}, "invalid_request"),
        ({"grant_type": "password"}, "invalid_request"),
        ({"grant_type": "password", "username": "a@example.com"}, "invalid_request"),
        ({"grant_type": "password", "username": "", "password": PASSWORD}, "invalid_request"),
        ({"grant_type": "password", "username": "a\0b", "password": PASSWORD}, "invalid_request"),
        ({"grant_type": "password", "username": "a" * 400, "password": "p"}, "invalid_request"),
        ({"grant_type": "password", "username": "a", "password": "p" * 2000}, "invalid_request"),
        ({"grant_type": "refresh_token"}, "invalid_request"),
        ({"grant_type": "refresh_token", "refresh_token": "unknown"}, "invalid_grant"),
        ({"grant_type": "refresh_token", "refresh_token": "\0é"}, "invalid_grant"),
        ({"grant_type": "client_credentials"}, "unsupported_grant_type"),
        ({"grant_type": "authorization_code", "code": "1"}, "unsupported_grant_type"),
    ],
    ids=str,
)
def test_a_grant_that_does_not_hold_has_the_code_of_the_standard(client, form, error):
    assert_refused(client.post("/auth/token", data=form), error)


@pytest.mark.parametrize("path", ["/auth/token", "/auth/revoke"])
def test_a_parameter_may_not_be_repeated(client, path):
    form = {"grant_type": ["password", "password"], "token": ["a", "a"]}

    assert_refused(client.post(path, data=form), "invalid_request")


@pytest.mark.parametrize("path", ["/auth/token", "/auth/revoke"])
@pytest.mark.parametrize(
    "request_options",
    [
        {"json": {"grant_type": "password", "token": "a"}},
        {"data": b"grant_type=password&token=a"},
        {"data": {"grant_type": "password", "token": "a"}, "content_type": "multipart/form-data"},
    ],
    ids=["json", "no type", "multipart"],
)
def test_only_forms_are_read(client, path, request_options):
    assert_refused(client.post(path, **request_options), "invalid_request")


def test_credentials_in_the_query_are_not_looked_at(client, user):
    form = {"grant_type": "password", "username": user.email, "password": PASSWORD}

    response = client.post(
        "/auth/token", query_string=form, content_type="application/x-www-form-urlencoded"
    )

    assert_refused(response, "invalid_request")


def test_the_input_is_not_repeated_in_a_refusal(client):
    form = {"grant_type": "secret-1", "username": "secret-2", "password": "secret-3"}

    response = client.post("/auth/token", data=form)

    assert b"secret" not in response.data


def test_a_form_that_is_too_large_is_413(client):
    response = client.post("/auth/token", data={"grant_type": "p" * 70_000})

    assert response.status_code == 413
    assert response.headers["Cache-Control"] == "no-store"


def test_a_revoked_refresh_token_is_refused(client, tokens):
    response = client.post("/auth/revoke", data={"token": tokens["refresh_token"]})

    assert (response.status_code, response.data) == (200, b"")
    assert response.headers["Cache-Control"] == "no-store"
    assert_refused(refresh(client, tokens["refresh_token"]), "invalid_grant")


def test_logging_out_ends_the_access_token_as_well(client, user, tokens):
    elsewhere = log_in(client, user).json

    client.post("/auth/revoke", data={"token": tokens["refresh_token"]})

    ended = client.get("/users/me", headers=bearer(tokens["access_token"]))
    other = client.get("/users/me", headers=bearer(elsewhere["access_token"]))
    assert (ended.status_code, other.status_code) == (401, 200)


@pytest.mark.parametrize("hint", ["refresh_token", "access_token", "something_else"])
def test_the_hint_is_only_a_hint(client, tokens, hint):
    form = {"token": tokens["refresh_token"], "token_type_hint": hint}

    assert client.post("/auth/revoke", data=form).status_code == 200
    assert_refused(refresh(client, tokens["refresh_token"]), "invalid_grant")


@pytest.mark.parametrize("token", ["unknown", "é\0", "a.b"])
def test_revoking_an_unknown_token_succeeds(client, token):
    assert client.post("/auth/revoke", data={"token": token}).status_code == 200


def test_an_access_token_cannot_be_revoked(client, tokens):
    response = client.post("/auth/revoke", data={"token": tokens["access_token"]})

    assert_refused(response, "unsupported_token_type")


def test_the_longest_access_token_cannot_be_revoked_either(client):
    """One by a long key, of a user with sixteen roles, has some 3000 characters."""
    token = ".".join(["a" * 2000] * 3)

    assert_refused(client.post("/auth/revoke", data={"token": token}), "unsupported_token_type")


def test_what_is_to_be_revoked_must_be_said(client):
    assert_refused(client.post("/auth/revoke", data={}), "invalid_request")


def test_the_tokens_of_a_deleted_user_stop_at_once(client, service_client, user, tokens):
    service_client.delete(f"/users/{user.id}")

    me = client.get("/users/me", headers=bearer(tokens["access_token"]))

    assert me.status_code == 401
    assert_refused(refresh(client, tokens["refresh_token"]), "invalid_grant")
    assert_refused(log_in(client, user), "invalid_grant")


def test_no_token_is_refused_while_secrets_are_exchanged_step_by_step(config, services, user):
    def make_pod(secret, previous):
        changed = replace(config, jwt_secret=secret, jwt_secret_previous=previous)
        return make_app(changed, services).test_client()

    steps = ((OLD_SECRET, ""), (OLD_SECRET, NEW_SECRET), (NEW_SECRET, OLD_SECRET), (NEW_SECRET, ""))
    unchanged, announced, changed, done = (make_pod(*step) for step in steps)

    beside = ((unchanged, announced), (announced, unchanged), (announced, changed))
    for issuer, pod in (*beside, (changed, announced), (changed, done), (done, changed)):
        token = bearer(log_in(issuer, user).json["access_token"])
        assert pod.get("/users/me", headers=token).status_code == 200
    old = bearer(log_in(unchanged, user).json["access_token"])
    assert done.get("/users/me", headers=old).status_code == 401


def test_a_log_in_outlasts_the_exchange_of_secrets(config, services, user):
    before = make_app(replace(config, jwt_secret=OLD_SECRET), services).test_client()
    after = make_app(replace(config, jwt_secret=NEW_SECRET), services).test_client()
    tokens = log_in(before, user).json

    assert refresh(after, tokens["refresh_token"]).status_code == 200


def test_a_database_that_is_away_is_503_and_stands_in_the_log(config, caplog):
    client = make_app(replace(config, database_url=NOWHERE)).test_client()

    response = refresh(client, "unknown")

    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) >= 1
    assert response.headers["Cache-Control"] == "no-store"
    assert response.json["error"] == "unavailable"  # not a fault of the request
    assert "Request failed" in caplog.messages


@pytest.mark.integration
def test_a_standard_oauth_client_logs_in_renews_and_logs_out(database_url):
    with serve(DATABASE_URL=database_url, API_KEY=API_KEY, WEB_CONCURRENCY="1") as web:
        endpoint = f"{web.url}/auth/token"
        session = OAuth2Session(token_endpoint=endpoint, client_id="any")
        session.post(f"{web.url}/users", json=ADA | {"password": PASSWORD}, withhold_token=True)

        first = session.fetch_token(endpoint, username=ADA["email"], password=PASSWORD)
        me = session.get(f"{web.url}/users/me").json()
        second = session.refresh_token(endpoint, refresh_token=first["refresh_token"])
        same = session.get(f"{web.url}/users/me").json()
        revoked = session.revoke_token(f"{web.url}/auth/revoke", token=second["refresh_token"])
        with pytest.raises(OAuthError) as refused:
            session.refresh_token(endpoint, refresh_token=second["refresh_token"])

    assert me["email"] == same["email"] == ADA["email"]
    assert first["refresh_token"] != second["refresh_token"]
    assert revoked.status_code == 200
    assert refused.value.error == "invalid_grant"


def without_ids(document):
    return document | {"request_id": None, "trace_id": None}
