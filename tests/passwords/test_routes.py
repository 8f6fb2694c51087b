"""Passwords over HTTP."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from tests.conftest import make_app
from tests.support.factories import bearer_of, begin_log_in, make_user
from tests.support.passwords import (
    NEW,
    OLD,
    claimed,
    holds,
    make_token,
    row_of,
    session_of,
    topics,
    write,
)
from userservice.passwords import recovery
from userservice.users.links import Purpose

pytestmark = pytest.mark.integration

RESET = "/auth/password/reset"
STRANGE_ID = "01900000-0000-7000-8000-000000000000"
HOSTS = ({"Host": "evil.example"}, {"X-Forwarded-Host": "evil.example"}, {"Forwarded": "host=evil"})


def change(client, user, headers, **members):
    body = {"current_password": OLD, "new_password": NEW, **members}
    return client.put(f"/users/{user.id}/password", json=body, headers=headers)


def log_in(client, user, password):
    form = {"grant_type": "password", "username": user.email, "password": password}
    return client.post("/auth/token", data=form).status_code


def test_a_user_changes_the_password_and_stays_logged_in_here_alone(client, services, config, user):
    own, other = (begin_log_in(services.database, config, user) for _ in range(2))

    answer = change(client, user, {"Authorization": f"Bearer {own.access_token}"})

    assert (answer.status_code, answer.data) == (204, b"")
    assert holds(services, config, own)
    assert not holds(services, config, other)
    assert (log_in(client, user, OLD), log_in(client, user, NEW)) == (400, 200)
    assert session_of(config, own) is not None


def test_a_wrong_password_is_403_with_a_code_of_its_own(client, services, config, user):
    answer = change(
        client, user, bearer_of(services.database, config, user), current_password="wrong"
    )

    assert (answer.status_code, answer.json["code"]) == (403, "wrong_password")


@pytest.mark.parametrize("weak", ["short", "password123", "x" * 129])
def test_a_weak_password_is_400_and_names_its_member(client, services, config, user, weak):
    bearer = bearer_of(services.database, config, user)

    changed = change(client, user, bearer, new_password=weak)
    reset = client.post(
        RESET, json={"token": make_token(services, user), "new_password": weak}, headers=bearer
    )

    for answer in (changed, reset):
        assert answer.status_code == 400
        assert [each["pointer"] for each in answer.json["errors"]] == ["/new_password"]
        assert weak not in answer.text
    assert row_of(services, user).password_changed_at is None


def test_the_password_in_use_is_read_in_any_composition(client, services, config):
    user = make_user(services.database, password="Zoë und ihr Fahrrad")
    bearer = bearer_of(services.database, config, user)

    answer = change(client, user, bearer, current_password="Zoe\u0308 und ihr Fahrrad")

    assert answer.status_code == 204


@pytest.mark.parametrize("caller", ["user", "superuser"])
def test_guesses_are_limited_for_each_user_and_nobody_is_exempt(config, services, caller):
    configured = replace(config, rate_limit_enabled=True, rate_limit_password="2/minute")
    client = make_app(configured, services).test_client()
    user, other = (
        make_user(services.database, password=OLD, is_superuser=caller == "superuser")
        for _ in range(2)
    )
    bearer = bearer_of(services.database, config, user)

    answers = [change(client, user, bearer, current_password="wrong") for _ in range(3)]

    assert [each.status_code for each in answers] == [403, 403, 429]
    assert answers[2].headers["Retry-After"]
    assert change(client, user, bearer_of(services.database, config, user)).status_code == 429
    assert change(client, other, bearer_of(services.database, config, other)).status_code == 204


def test_a_link_resets_once(client, services, user):
    body = {"token": make_token(services, user), "new_password": NEW}

    answers = [client.post(RESET, json=body) for _ in range(2)]

    assert [each.status_code for each in answers] == [204, 400]
    assert answers[1].json["code"] == "invalid_token"
    assert answers[1].json["error"] == "invalid_request"
    assert all(each.headers["Cache-Control"] == "no-store" for each in answers)
    assert log_in(client, user, NEW) == 200


def test_all_tokens_that_do_not_hold_get_one_text(client, services, user):
    spent = make_token(services, user)
    client.post(RESET, json={"token": spent, "new_password": NEW})
    good = make_token(services, user)
    write(services, user, pending_email="new@example.com")
    purpose, subject, until, code = good.split(".")
    dead = [
        spent,
        make_token(services, user, Purpose.VERIFICATION),
        make_token(services, user, Purpose.CHANGE),
        f"invite.{subject}.{until}.{code}",
        f"{purpose}.{make_user(services.database).id.hex}.{until}.{code}",
        f"{purpose}.{subject}.{int(until) + 1}.{code}",
        *(good[:at] + chr(ord(good[at]) ^ 1) + good[at + 1 :] for at in range(len(good))),
        *("", "x", "é", good * 4),
    ]

    answers = [
        client.post(RESET, json={"token": token, "new_password": "yet another sentence"})
        for token in dead
    ]

    varying = {"request_id": None, "trace_id": None}
    assert {each.status_code for each in answers} == {400}
    assert len({str(each.json | varying) for each in answers}) == 1
    body = {"token": good, "new_password": "yet another sentence"}
    assert client.post(RESET, json=body).status_code == 204


def test_a_token_that_no_service_makes_is_400(client):
    for token in ("x" * 1025, 7, None):
        answer = client.post(RESET, json={"token": token, "new_password": NEW})
        assert answer.status_code == 400


def test_a_reset_is_no_log_in_and_a_link_is_no_credential(client, services, user):
    token = make_token(services, user)

    answer = client.get("/users/me", headers={"Authorization": f"Bearer {token}"})
    reset = client.post(RESET, json={"token": token, "new_password": NEW})

    assert answer.status_code == 401
    assert reset.data == b""
    assert "Set-Cookie" not in reset.headers


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_no_get_spends_a_link(client, services, user, method):
    token = make_token(services, user)

    for path in (f"{RESET}?token={token}", f"/account?token={token}", f"/?{token}"):
        client.open(path, method=method)

    assert client.post(RESET, json={"token": token, "new_password": NEW}).status_code == 204


@pytest.mark.parametrize("headers", HOSTS)
def test_a_forged_host_does_not_move_the_link(client, services, user, headers):
    client.post("/auth/password/forgot", json={"email": user.email}, headers=headers)

    (message,) = (m for m in claimed(services) if m.topic == recovery.RECOVERY_REQUESTED)
    found = recovery.find_link(services, message)
    assert found is not None
    address = found[2]

    assert address.startswith("http://localhost:8080/account#")
    assert "evil" not in str(message)


def test_an_administrator_sends_a_link_to_a_user(service_client, services, user):
    answer = service_client.post(f"/users/{user.id}/recovery")

    assert (answer.status_code, answer.data) == (202, b"")
    assert topics(services).count(recovery.RECOVERY_REQUESTED) == 1
    assert row_of(services, user).password_hash is not None


def test_a_recovery_names_what_is_in_its_way(service_client, services, user):
    unknown = service_client.post(f"/users/{STRANGE_ID}/recovery")
    write(services, user, suspended_at=datetime.now(UTC))
    suspended = service_client.post(f"/users/{user.id}/recovery")

    assert (unknown.status_code, unknown.json["code"]) == (404, "user_not_found")
    assert (suspended.status_code, suspended.json["code"]) == (409, "user_suspended")
    assert recovery.RECOVERY_REQUESTED not in topics(services)


def test_the_user_document_stays_as_it_was(service_client, client, services, user):
    before = service_client.get(f"/users/{user.id}")

    client.post(RESET, json={"token": make_token(services, user), "new_password": NEW})

    after = service_client.get(f"/users/{user.id}")
    assert (after.data, after.headers["ETag"]) == (before.data, before.headers["ETag"])
