"""Each API key opens the routes of its scopes, and no others."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID, uuid4

import pytest

from chassis.http.auth import SCOPED, Access, Guard
from chassis.http.authenticator import SERVICE, Principal
from tests.conftest import API_KEY, make_app
from tests.http.test_auth import CALLERS, CLOSED, MATRIX, call
from tests.support.databases import ONE_DATABASE
from tests.support.factories import ADA, bearer_of, make_user
from tests.support.keys import key_of
from tests.support.routes import access_to, accesses
from userservice.scopes import Scope
from userservice.standing.service import suspend

ALL = frozenset(Scope)
# A key is read from the database, and its scopes are compared without it: see SOME.
KEYS = {
    "no scope": frozenset(),
    **{f"only {each}": frozenset({each}) for each in Scope},
    **{f"all but {each}": ALL - {each} for each in Scope},
    "all scopes": ALL,
}
SOME = {name: KEYS[name] for name in ("no scope", "all scopes", f"all but {Scope.USERS_READ}")}
# Scopes that a key of the future may have, and that this release does not know.
UNKNOWN = ("users:everything", "users", "*", "", "USERS:READ")


def needed(access, route):
    """Return the scopes that a key needs for a route, and for the part that its query asks for."""
    part = route[1].partition("?")[2]
    return {access.scope, *(scope for name, scope in access.parts.items() if name == part)}


def answers(app, database, headers, table):
    """Return route -> status for a caller; each route is called for a user of its own."""
    client = app.test_client()
    return {
        (method, path): call(client, method, path, headers, make_user(database)).status_code
        for method, path in table
    }


def expected(app, scopes, table):
    """Return route -> status: that of the key of the environment, or 403."""
    statuses = {}
    for route, row in table.items():
        access = access_to(app, route)
        is_missing = access.guard in SCOPED and not needed(access, route) <= scopes
        is_open = access.guard is Guard.REGISTRAR and table is not CLOSED
        statuses[route] = 403 if is_missing and not is_open else row[CALLERS.index("service")]
    return statuses


@ONE_DATABASE
@pytest.mark.parametrize("scopes", KEYS.values(), ids=KEYS)
def test_a_key_opens_the_routes_of_its_scopes_and_no_others(app, database, scopes):
    headers = key_of(database, *scopes)

    assert answers(app, database, headers, MATRIX) == expected(app, scopes, MATRIX)


@pytest.mark.parametrize("scopes", SOME.values(), ids=SOME)
def test_a_key_opens_the_same_routes_on_every_database(app, database, scopes):
    headers = key_of(database, *scopes)

    assert answers(app, database, headers, MATRIX) == expected(app, scopes, MATRIX)


@ONE_DATABASE
@pytest.mark.parametrize("scopes", KEYS.values(), ids=KEYS)
def test_a_key_registers_users_with_its_scope_alone_where_registration_is_closed(
    config, services, database, scopes
):
    app = make_app(replace(config, registration="authenticated"), services)
    headers = key_of(database, *scopes)

    assert answers(app, database, headers, CLOSED) == expected(app, scopes, CLOSED)


def test_scopes_that_nobody_knows_open_nothing(app, database):
    headers = key_of(database, *UNKNOWN)

    assert answers(app, database, headers, MATRIX) == expected(app, frozenset(), MATRIX)


def test_every_scope_of_a_route_is_one_of_the_list(app):
    used = {
        scope for each in accesses(app).values() for scope in (each.scope, *each.parts.values())
    }

    assert used - {None} <= set(Scope)


@pytest.mark.parametrize("guard", Guard)
def test_a_guard_that_lets_services_in_needs_a_scope_and_no_other_takes_one(guard):
    needs_scope = guard in SCOPED
    scope = None if needs_scope else "things:read"

    with pytest.raises(ValueError, match=guard.name):
        Access(guard, scope)

    assert Access(guard, "things:read" if needs_scope else None).guard is guard


def test_a_principal_has_the_rights_of_its_scopes():
    key = Principal(None, is_administrator=False, key_id="k", scopes=frozenset({"things:read"}))
    user = Principal(uuid4(), is_administrator=False)
    superuser = Principal(uuid4(), is_administrator=True)

    def rights(each):
        return [each.may(scope) for scope in ("things:read", "things:write", None)]

    assert rights(key) == [True, False, False]
    assert rights(user) == [False, False, False]
    assert rights(superuser) == rights(SERVICE) == [True, True, True]


def test_principals_have_names_of_their_own():
    user_id = uuid4()
    named = Principal(None, is_administrator=False, key_id="k")

    names = [each.name for each in (SERVICE, named, Principal(user_id, is_administrator=False))]

    assert names == ["service", "key:k", str(user_id)]


# Refusals


def test_a_key_is_told_which_scope_it_lacks(client, database):
    headers = key_of(database, *ALL - {Scope.USERS_READ})

    response = client.get("/users", headers=headers)

    assert response.status_code == 403
    assert response.json["code"] == "insufficient_scope"
    assert response.json["detail"] == "The API key needs the scope users:read"
    assert "WWW-Authenticate" not in response.headers


def test_a_key_learns_the_same_about_things_that_are_there_and_that_are_not(client, database):
    headers = key_of(database, Scope.USERS_IMPORT)
    user = make_user(database)

    def refusal(user_id):
        body = client.get(f"/users/{user_id}/account", headers=headers).json
        return body | dict.fromkeys(("instance", "request_id", "trace_id"))

    assert refusal(user.id) == refusal(uuid4())


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/users/me"), ("PUT", "/users/{id}/superuser"), ("PUT", "/users/{id}/password")],
)
def test_where_no_key_is_of_use_no_scope_is_named(client, database, method, path):
    response = call(client, method, path, key_of(database, *ALL), make_user(database))

    assert response.status_code == 403
    assert response.json["code"] == "forbidden"


def test_users_are_told_of_no_scope(client, database, config):
    headers = bearer_of(database, config, make_user(database))

    response = client.get("/users", headers=headers)

    assert (response.json["code"], response.json["detail"]) == ("forbidden", "Not allowed")


# Parts of a route's work


def test_an_address_is_changed_with_the_scope_of_administrators_beside_that_of_changes(
    client, database
):
    user = make_user(database)

    def change(*scopes, **members):
        headers = key_of(database, *scopes)
        return client.patch(f"/users/{user.id}", json=members, headers=headers)

    refused = change(Scope.USERS_WRITE, email="new@example.com", name="New")
    unasked = client.get(f"/users/{user.id}", headers=key_of(database, Scope.USERS_READ)).json
    renamed = change(Scope.USERS_WRITE, name="Renamed")
    moved = change(Scope.USERS_WRITE, Scope.USERS_ADMIN, email="new@example.com")

    assert refused.status_code == 403
    assert refused.json["detail"] == "The API key needs the scope users:admin"
    assert (unasked["email"], unasked["name"]) == (user.email, user.name)
    assert (renamed.status_code, renamed.json["name"]) == (200, "Renamed")
    assert (moved.status_code, moved.json["email"]) == (200, "new@example.com")


def test_a_user_is_erased_with_the_scope_of_administrators_beside_that_of_changes(client, database):
    user = make_user(database)

    def erase(*scopes):
        path = f"/users/{user.id}?erase=now"
        return client.delete(path, headers=key_of(database, *scopes))

    refused = erase(Scope.USERS_WRITE)

    assert refused.json["detail"] == "The API key needs the scope users:admin"
    assert erase(Scope.USERS_WRITE, Scope.USERS_ADMIN).status_code == 204


def test_the_reason_of_a_suspension_is_for_the_scope_of_administrators(client, database):
    user = make_user(database)
    suspend(database, user.id, "Chargeback")

    def read(path, *scopes):
        response = client.get(f"/users/{user.id}/{path}", headers=key_of(database, *scopes))
        assert response.status_code == 200
        return response.get_data(as_text=True)

    assert "Chargeback" in read("account", Scope.USERS_ADMIN)
    assert "Chargeback" not in read("export", Scope.USERS_EXPORT)
    assert "Chargeback" in read("export", Scope.USERS_EXPORT, Scope.USERS_ADMIN)


# A key is no administrator by being a key


@pytest.fixture
def limited(config, services):
    """A caller of a service that lets each client register once."""
    limits = replace(config, rate_limit_enabled=True, rate_limit_registration="1/hour")
    return make_app(limits, services).test_client()


def register(client, headers):
    """Register three users; return the statuses."""
    bodies = ({"email": f"u{uuid4().hex}@example.com", "name": "User"} for _ in range(3))
    return [client.post("/users", json=each, headers=headers).status_code for each in bodies]


def test_limits_are_lifted_for_the_scope_of_the_route(limited, database):
    assert register(limited, key_of(database, Scope.USERS_WRITE)) == [201] * 3


@pytest.mark.parametrize("scopes", [frozenset(), ALL - {Scope.USERS_WRITE}], ids=["none", "others"])
def test_limits_hold_for_keys_without_it(limited, database, scopes):
    assert register(limited, key_of(database, *scopes)) == [201, 429, 429]


def test_each_key_has_stored_answers_of_its_own(client, database):
    callers = [
        *(key_of(database, Scope.USERS_WRITE) for _ in range(2)),
        {"X-API-Key": API_KEY},
        {},
    ]
    names = {"Idempotency-Key": "the same for all"}

    ids = []
    for number, headers in enumerate(callers):
        body = ADA | {"email": f"u{number}@example.com"}
        answers = [client.post("/users", json=body, headers=headers | names) for _ in range(2)]
        assert [each.headers.get("Idempotent-Replayed") for each in answers] == [None, "true"]
        assert answers[0].json == answers[1].json
        ids.append(UUID(answers[0].json["id"]))

    assert len(set(ids)) == len(callers)
