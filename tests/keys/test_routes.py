"""/api-keys over HTTP."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import select

from chassis.security import fingerprint
from tests.conftest import API_KEY, make_app
from tests.support.factories import bearer_of, in_order, make_user
from tests.support.keys import expire, key_header, make_key, secret_of
from userservice.keys.queries import keys
from userservice.scopes import Scope

PASSWORD = "correct horse battery"
BODY = {"name": "billing", "scopes": ["users:read"]}
RIGHT = BODY | {"current_password": PASSWORD}
NOBODYS = "0" * 32


@pytest.fixture
def superuser(database):
    return make_user(database, is_superuser=True, password=PASSWORD)


@pytest.fixture
def headers(database, config, superuser):
    return bearer_of(database, config, superuser)


@pytest.fixture
def manager(database):
    """A key that manages keys, and reads users."""
    return make_key(database, Scope.KEYS_MANAGE, Scope.USERS_READ)


def stored(database):
    with database.connection() as connection:
        return connection.execute(select(keys).order_by(keys.c.id)).mappings().all()


def in_a_day():
    return datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)


# Making


def test_a_key_is_shown_once_and_opens_what_its_scopes_say(client, service_client, database):
    made = service_client.post("/api-keys", json=BODY)

    assert made.status_code == 201
    assert made.headers["Cache-Control"] == "no-store"
    document = made.json
    key = document.pop("key")
    assert re.fullmatch(rf"cua_{document['id']}_[A-Za-z0-9_-]{{43}}", key)
    assert service_client.get("/api-keys").json["items"] == [document]
    caller = {"X-API-Key": key}
    assert client.get("/users", headers=caller).status_code == 200
    assert client.get("/users/export", headers=caller).status_code == 403
    [row] = stored(database)
    assert row["key_hash"] == fingerprint(key.encode())
    assert secret_of(key) not in repr(row)


def test_a_key_says_who_made_it_and_when_it_ends(client, service_client, database, headers):
    superuser_id = client.get("/users/me", headers=headers).json["id"]
    end = in_a_day()

    by_service = service_client.post("/api-keys", json=BODY).json
    by_superuser = client.post(
        "/api-keys", json=RIGHT | {"expires_at": end.isoformat()}, headers=headers
    ).json

    assert (by_service["created_by"], by_service["expires_at"]) == ("environment", None)
    assert by_superuser["created_by"] == superuser_id
    assert datetime.fromisoformat(by_superuser["expires_at"]) == end
    assert {by_service["status"], by_superuser["status"]} == {"active"}
    assert make_key(database, Scope.USERS_READ).row.created_by is None


@pytest.mark.parametrize(
    ("body", "refusal"),
    [
        (RIGHT, None),
        (BODY, (400, "invalid_request")),
        (BODY | {"current_password": "another sentence"}, (403, "wrong_password")),
        (BODY | {"current_password": 7}, (400, "invalid_request")),
        (BODY | {"current_password": "x" * 1025}, (400, "invalid_request")),
    ],
)
def test_a_superuser_gives_the_current_password(client, database, headers, body, refusal):
    response = client.post("/api-keys", json=body, headers=headers)

    assert (response.status_code, response.json.get("code")) == (refusal or (201, None))
    assert len(stored(database)) == (refusal is None)


def test_a_stolen_token_guesses_passwords_as_seldom_as_any(config, services, headers):
    limited = replace(config, rate_limit_enabled=True, rate_limit_password="3/minute")
    client = make_app(limited, services).test_client()
    wrong = BODY | {"current_password": "another sentence"}

    statuses = [client.post("/api-keys", json=wrong, headers=headers).status_code for _ in range(4)]

    assert statuses == [403, 403, 403, 429]
    assert client.post("/api-keys", json=RIGHT, headers=headers).status_code == 429


def test_a_key_makes_keys_within_its_own_scopes(client, database, manager):
    own = {"name": "next", "scopes": ["users:read", "keys:manage"]}
    more = {"name": "next", "scopes": ["users:read", "users:write"]}

    made = client.post("/api-keys", json=own, headers=key_header(manager))
    refused = client.post("/api-keys", json=more, headers=key_header(manager))

    assert (made.status_code, made.json["created_by"]) == (201, manager.row.id.hex)
    assert (refused.status_code, refused.json["code"]) == (403, "insufficient_scope")
    assert len(stored(database)) == 2


@pytest.mark.parametrize("scope", sorted(set(Scope) - {Scope.KEYS_MANAGE}), ids=str)
def test_no_other_scope_manages_keys(client, database, scope):
    made = make_key(database, scope)

    statuses = [
        client.post("/api-keys", json=BODY, headers=key_header(made)).status_code,
        client.get("/api-keys", headers=key_header(made)).status_code,
        client.delete(f"/api-keys/{made.row.id.hex}", headers=key_header(made)).status_code,
    ]

    assert statuses == [403, 403, 403]


@pytest.mark.parametrize(
    ("change", "pointer", "says"),
    [
        ({"name": " "}, "/name", "Name is required"),
        ({"name": "a\nb"}, "/name", "Name must not contain control characters"),
        ({"name": "a\x00b"}, "/name", "Name must not contain control characters"),
        ({"name": "a\u202eb"}, "/name", "Name must not contain control characters"),
        ({"name": "\u2800"}, "/name", "Name must have a letter that can be seen"),
        ({"name": "x" * 101}, "/name", "Name must have at most 100 characters"),
        ({"name": "x" * 201}, "/name", "Name must have at most 100 characters"),
        ({"name": 7}, "/name", "Name must be a string"),
        ({"scopes": []}, "/scopes", "Scopes must name one at least"),
        ({"scopes": ["users"]}, "/scopes", "Scopes must be of users:read, users:write"),
        ({"scopes": ["users:read"] * 2}, "/scopes", "Scopes must not name a scope twice"),
        ({"scopes": "users:read"}, "/scopes", "Scopes is not valid"),
        ({"scopes": [7]}, "/scopes/0", "0 must be a string"),
        ({"scopes": None}, "/scopes", "Scopes is not valid"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "/expires_at", "Expires at must lie in the"),
        ({"expires_at": "2999-01-01T00:00:00"}, "/expires_at", "Expires at must be a time with"),
        ({"expires_at": "soon"}, "/expires_at", "Expires at must be a time with its zone"),
        ({"expires_at": 4102444800}, "/expires_at", "Expires at must be a time with its zone"),
        ({"expires_at": "9999-12-31T23:59:59-14:00"}, "/expires_at", "Expires at must be a time"),
        ({"expires": "2999-01-01T00:00:00Z"}, "/expires", "Expires is unknown"),
        ({"key": "cua_mine"}, "/key", "Key is unknown"),
    ],
)
def test_a_key_that_breaks_a_rule_is_not_made(service_client, database, change, pointer, says):
    response = service_client.post("/api-keys", json=BODY | change)

    assert response.status_code == 400
    assert response.json["detail"].startswith(says)
    assert response.json["errors"][0]["pointer"] == pointer
    assert stored(database) == []


def test_a_name_is_kept_as_people_write_it_and_need_not_be_the_only_one(service_client):
    names = ["e\u0301tat \U0001f600", " billing ", "billing", "x" * 100]

    made = [service_client.post("/api-keys", json=BODY | {"name": name}).json for name in names]

    assert [each["name"] for each in made] == [
        "\xe9tat \U0001f600",
        "billing",
        "billing",
        "x" * 100,
    ]


def test_an_idempotency_key_stores_no_answer(service_client, database):
    twice = [
        service_client.post("/api-keys", json=BODY, headers={"Idempotency-Key": "same"})
        for _ in range(2)
    ]

    assert [each.status_code for each in twice] == [201, 201]
    assert twice[0].json["id"] != twice[1].json["id"]
    with database.connection() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM idempotency_keys").scalar() == 0


# Listing


def test_keys_are_listed_page_by_page_in_the_order_in_which_they_were_made(
    service_client, database
):
    made = in_order(make_key(database, Scope.USERS_READ, name=f"key {n}") for n in range(5))
    ids = [each.row.id.hex for each in made]

    seen, link = [], "</api-keys?page_size=2>"
    while link:
        page = service_client.get(link[1 : link.index(">")])
        seen.append([each["id"] for each in page.json["items"]])
        link = page.headers.get("Link", "")

    assert seen == [ids[:2], ids[2:4], ids[4:]]


def test_the_token_of_a_page_of_another_list_is_refused(service_client, database):
    for _ in range(2):
        make_key(database, Scope.USERS_READ)
    token = service_client.get("/api-keys?page_size=1").json["next_page_token"]

    statuses = [
        service_client.get(f"/api-keys?page_size=1&page_token={each}").status_code
        for each in (token, token[:-2], f"{token}&status=active")
    ]

    assert statuses == [200, 400, 400]


def test_a_key_that_ended_is_still_listed(service_client, database):
    active, expired, revoked = in_order(make_key(database, Scope.USERS_READ) for _ in range(3))
    expire(database, expired)
    service_client.delete(f"/api-keys/{revoked.row.id.hex}")

    listed = service_client.get("/api-keys").json["items"]
    found = {
        status: [each["id"] for each in items(service_client, status)]
        for status in ("active", "expired", "revoked")
    }

    assert sorted(each["status"] for each in listed) == ["active", "expired", "revoked"]
    assert found == {
        "active": [active.row.id.hex],
        "expired": [expired.row.id.hex],
        "revoked": [revoked.row.id.hex],
    }
    assert service_client.get("/api-keys?status=lost").status_code == 400


def items(caller, status):
    return caller.get(f"/api-keys?status={status}").json["items"]


def test_a_list_shows_neither_a_key_nor_its_fingerprint(service_client, database):
    made = make_key(database, Scope.USERS_READ)

    page = service_client.get("/api-keys")

    assert page.headers["Cache-Control"] == "private, no-cache"
    assert set(page.json["items"][0]) == {
        *("id", "name", "status", "scopes", "created_at", "created_by", "expires_at"),
        "revoked_at",
    }
    assert secret_of(made.key) not in page.text
    assert fingerprint(made.key.encode()) not in page.text


# Revoking


def test_a_revoked_key_ends_at_once_in_this_process(client, service_client, database):
    made = make_key(database, Scope.USERS_READ)
    before = client.get("/users", headers=key_header(made)).status_code

    revoked = service_client.delete(f"/api-keys/{made.row.id.hex}")

    assert (before, revoked.status_code, revoked.data) == (200, 204, b"")
    assert client.get("/users", headers=key_header(made)).status_code == 401


def test_a_key_that_is_revoked_again_stays_as_it_is(service_client, database):
    path = f"/api-keys/{make_key(database, Scope.USERS_READ).row.id.hex}"
    service_client.delete(path)
    before = stored(database)

    assert service_client.delete(path).status_code == 204
    assert stored(database) == before


def test_a_key_revokes_keys_within_its_own_scopes_and_itself(client, database, manager):
    less, more = make_key(database, Scope.USERS_READ), make_key(database, Scope.USERS_WRITE)

    statuses = [
        client.delete(f"/api-keys/{each.row.id.hex}", headers=key_header(manager)).status_code
        for each in (less, more, manager, less)
    ]

    assert statuses == [204, 403, 204, 401]
    assert [each["revoked_at"] is None for each in stored(database)] == [False, False, True]


def test_a_key_that_is_not_there_is_not_found(service_client):
    response = service_client.delete(f"/api-keys/{NOBODYS}")

    assert (response.status_code, response.json["code"]) == (404, "api_key_not_found")


@pytest.mark.parametrize(
    "key_id", ["environment", API_KEY, "x", "A" * 32, "%00", "a" * 33, str(UUID(int=0)), "a" * 5000]
)
def test_a_text_that_is_no_id_leads_nowhere(service_client, key_id):
    assert service_client.delete(f"/api-keys/{key_id}").status_code == 404
