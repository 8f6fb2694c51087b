"""Superusers, roles and accounts over HTTP."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from sqlalchemy import update

from chassis.security import PasswordHasher
from tests.conftest import make_app
from tests.support.factories import bearer_of, begin_log_in, make_user
from userservice.standing import service
from userservice.users.addresses import mailbox_key
from userservice.users.queries import users

PASSWORD = "correct horse battery"
WRONG = {"current_password": "another sentence of length"}
RIGHT = {"current_password": PASSWORD}


@pytest.fixture
def user(database):
    return make_user(database, password=PASSWORD)


@pytest.fixture
def superuser(database):
    return make_user(database, is_superuser=True, password=PASSWORD)


@pytest.fixture
def headers(database, config, superuser):
    return bearer_of(database, config, superuser)


def set_columns(database, user, **values):
    with database.connection() as connection:
        connection.execute(update(users).where(users.c.id == user.id).values(values))


def account(caller, user, headers=None):
    response = caller.get(f"/users/{user.id}/account", headers=headers)
    assert response.status_code == 200
    assert response.headers["Cache-Control"] == "private, no-cache"
    return response.json


# Superusers


def test_a_superuser_makes_another_with_the_own_password(client, config, database, user, headers):
    path = f"/users/{user.id}/superuser"

    refused = client.put(path, json=WRONG, headers=headers)
    made = client.put(path, json=RIGHT, headers=headers)

    assert (refused.status_code, refused.json["code"]) == (403, "wrong_password")
    assert made.status_code == 204
    assert client.get("/users", headers=bearer_of(database, config, user)).status_code == 200


def test_a_demotion_takes_effect_at_once(client, config, database, headers):
    other = make_user(database, is_superuser=True)
    token = bearer_of(database, config, other)

    before = client.get("/users", headers=token).status_code
    demoted = client.delete(f"/users/{other.id}/superuser", headers=headers).status_code

    assert (before, demoted) == (200, 204)
    assert client.get("/users", headers=token).status_code == 403
    assert client.get("/users/me", headers=token).status_code == 200


@pytest.mark.parametrize("password", ["e\u0301" * 128, "of another service " * 40])
def test_a_password_with_which_a_superuser_logs_in_is_right_for_a_promotion(
    client, database, superuser, headers, password
):
    user = make_user(database)
    set_columns(database, superuser, password_hash=PasswordHasher().hash(password))
    form = {"grant_type": "password", "username": superuser.email, "password": password}

    made = client.put(
        f"/users/{user.id}/superuser", json={"current_password": password}, headers=headers
    )

    assert client.post("/auth/token", data=form).status_code == 200
    assert made.status_code == 204


@pytest.mark.parametrize("body", [{}, {"current_password": 1}, RIGHT | {"is_superuser": True}])
def test_a_promotion_without_a_password_promotes_nobody(client, user, headers, body):
    path = f"/users/{user.id}/superuser"

    assert client.put(path, json=body, headers=headers).status_code == 400
    assert account(client, user, headers)["is_superuser"] is False


def test_the_last_superuser_stays_for_every_caller(client, service_client, superuser, headers):
    path = f"/users/{superuser.id}"

    answers = [
        client.delete(f"{path}/superuser", headers=headers),
        client.put(f"{path}/suspension", json={}, headers=headers),
        client.delete(path, headers=headers),
        client.delete(f"{path}?erase=now", headers=headers),
        service_client.put(f"{path}/suspension", json={}),
        service_client.delete(path),
    ]

    assert {(each.status_code, each.json["code"]) for each in answers} == {(409, "last_superuser")}
    assert client.get("/users", headers=headers).status_code == 200


def test_a_superuser_token_guesses_passwords_as_seldom_as_any(config, services, user, headers):
    limited = replace(config, rate_limit_enabled=True, rate_limit_password="3/minute")
    client = make_app(limited, services).test_client()
    path = f"/users/{user.id}/superuser"

    statuses = [client.put(path, json=WRONG, headers=headers).status_code for _ in range(5)]

    assert statuses == [403, 403, 403, 429, 429]
    assert client.put(path, json=RIGHT, headers=headers).status_code == 429


# Roles


def test_roles_are_replaced_as_a_whole_and_grant_nothing(
    client, service_client, config, database, user
):
    token = bearer_of(database, config, user)
    path = f"/users/{user.id}/roles"
    seen = []
    for roles in (["users:admin", "superuser"], ["a_b.c:d-9"], []):
        assert service_client.put(path, json={"roles": roles}).status_code == 204
        seen.append(account(client, user, token)["roles"])

    assert seen == [["users:admin", "superuser"], ["a_b.c:d-9"], []]
    service_client.put(path, json={"roles": ["users:admin"]})
    assert client.get("/users", headers=token).status_code == 403
    assert client.get(f"/users/{user.id}", headers=token).headers["ETag"] == '"1"'


@pytest.mark.parametrize(
    "roles",
    [
        None,
        "admin",
        [""],
        ["A"],
        ["a b"],
        ["ä"],
        ["a\n"],
        ["x" * 65],
        ["a", "a"],
        [1],
        [f"r{number}" for number in range(17)],
    ],
)
def test_roles_that_break_a_rule_are_refused(service_client, user, roles):
    service_client.put(f"/users/{user.id}/roles", json={"roles": ["kept"]})

    response = service_client.put(f"/users/{user.id}/roles", json={"roles": roles})

    assert response.status_code == 400
    assert account(service_client, user)["roles"] == ["kept"]


def test_sixteen_roles_of_64_letters_are_taken(service_client, user):
    roles = [f"{number:x}" * 64 for number in range(16)]

    response = service_client.put(f"/users/{user.id}/roles", json={"roles": roles})

    assert response.status_code == 204
    assert account(service_client, user)["roles"] == roles


@pytest.mark.parametrize("method", ["GET account", "PUT roles", "PUT suspension"])
def test_of_a_deleted_user_nothing_is_found(service_client, user, method):
    service_client.delete(f"/users/{user.id}")
    verb, name = method.split()

    response = service_client.open(
        f"/users/{user.id}/{name}", method=verb, json={"roles": []} if name == "roles" else {}
    )

    assert (response.status_code, response.json["code"]) == (404, "user_not_found")


# Accounts


def test_a_user_sees_the_own_account(client, config, database, user):
    token = bearer_of(database, config, user)
    begin_log_in(database, config, user)

    assert account(client, user, token) == {
        "email_verified": False,
        "pending_email": None,
        "has_password": True,
        "password_changed_at": None,
        "standing": "active",
        "is_superuser": False,
        "roles": [],
        "sessions": 2,
    }


def test_an_account_shows_what_is_stored(client, config, database, user):
    token = bearer_of(database, config, user)
    changed_at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    set_columns(
        database,
        user,
        verified_key=mailbox_key(user.email),
        pending_email="new@example.com",
        password_changed_at=changed_at,
        password_hash=None,
    )

    seen = account(client, user, token)

    assert (seen["email_verified"], seen["has_password"]) == (True, False)
    assert seen["pending_email"] == "new@example.com"
    assert datetime.fromisoformat(seen["password_changed_at"]) == changed_at


def test_an_address_that_the_release_before_changed_is_not_verified(service_client, database, user):
    set_columns(database, user, verified_key=mailbox_key(user.email), email="other@example.com")

    assert account(service_client, user)["email_verified"] is False


def test_administrators_see_the_standing_and_its_reason(client, service_client, user, headers):
    service_client.put(f"/users/{user.id}/suspension", json={"reason": "Chargeback"})

    for caller, credentials in ((service_client, None), (client, headers)):
        seen = account(caller, user, credentials)
        assert (seen["standing"], seen["suspension_reason"]) == ("suspended", "Chargeback")
    service_client.put(f"/users/{user.id}/suspension", json={})
    assert account(service_client, user)["suspension_reason"] is None
    service_client.delete(f"/users/{user.id}/suspension")
    seen = account(service_client, user)
    assert (seen["standing"], seen["suspension_reason"]) == ("active", None)


def test_nobody_but_administrators_sees_a_reason(client, config, database, user):
    service.suspend(database, user.id, "Chargeback")
    service.reinstate(database, user.id)
    set_columns(database, user, suspension_reason="Chargeback")
    token = bearer_of(database, config, user)

    for name in ("", "/account", "/export"):
        assert "Chargeback" not in client.get(f"/users/{user.id}{name}", headers=token).text
