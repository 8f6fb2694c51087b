"""One refusal for every key that does not hold: nobody learns which there were."""

from __future__ import annotations

import secrets

import pytest

from tests.support.keys import expire, key_header, make_key
from userservice.keys.service import revoke_key
from userservice.scopes import Scope

PATHS = {"a list": "/users", "a user": f"/users/{'0' * 8}-0000-7000-8000-{'0' * 12}"}


@pytest.fixture
def refused(database):
    """Reason -> headers of a caller whose key does not hold."""
    expired, revoked, other = (make_key(database, *Scope) for _ in range(3))
    expire(database, expired)
    revoke_key(database, revoked.row.id)
    return {
        "unknown": {"X-API-Key": f"cua_{secrets.token_hex(16)}_{secrets.token_urlsafe(32)}"},
        "malformed": {"X-API-Key": "cua_"},
        "expired": key_header(expired),
        "revoked": key_header(revoked),
        "another secret": {"X-API-Key": f"{other.key[:37]}{'a' * 43}"},
    }


def heard(response):
    """Return all that a caller hears, but for the names of the request."""
    names = {response.json["request_id"], response.json["trace_id"]}
    body, headers = response.text, [*response.headers]
    for each in names:
        body = body.replace(each, "-")
        headers = [(name, value.replace(each, "-")) for name, value in headers]
    return response.status, headers, body


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_keys_that_do_not_hold_are_refused_byte_for_byte_alike(client, refused, path):
    answers = {why: heard(client.get(path, headers=each)) for why, each in refused.items()}

    assert answers["unknown"][0] == "401 UNAUTHORIZED"
    assert {why for why, each in answers.items() if each != answers["unknown"]} == set()


def test_a_key_that_ended_is_not_made_good_where_no_credentials_are_needed(client, refused):
    body = {"email": "ada@example.com", "name": "Ada"}

    statuses = {
        client.post("/users", json=body, headers=each).status_code for each in refused.values()
    }

    assert statuses == {401}
