"""Each deed leaves one row, which says who did what to whom, and no personal data."""

from __future__ import annotations

import json
import re
from http import HTTPStatus
from uuid import UUID

import pytest
from sqlalchemy import text

from chassis.actor import ActorKind
from tests.deeds.conftest import send, snapshot
from tests.deeds.deeds import (
    CLIENT,
    DEEDS,
    ELSEWHERE,
    KEY,
    MARK,
    NAME,
    PASSWORD,
    Call,
    World,
)
from tests.support.statements import sent_by
from userservice.actions import Action
from userservice.logins import queries as logins
from userservice.users import service
from userservice.users.errors import UserNotFound

# Done once more by the same call, each changes nothing.
AGAIN = (
    *("log out", "verify the address", "reinstate", "promote", "demote"),
    *("suspend", "suspend for another reason", "set roles", "register a user once"),
    *("confirm another address", "revoke an API key"),
)


def about(row):
    return row.action, row.actor_kind, row.actor_id, row.target, row.changed


@pytest.mark.parametrize("name", DEEDS)
def test_a_deed_leaves_one_row_that_says_who_did_what_to_whom(do, world, trail, name):
    deed = DEEDS[name]

    response = do(deed)

    target = response.json["id"] if deed.status == HTTPStatus.CREATED else world.target
    by = {ActorKind.USER: str(world.caller_id), ActorKind.KEY: "environment"}.get(deed.by)
    (row,) = trail.read()
    assert response.status_code == deed.status
    assert about(row) == (deed.action, deed.by, by, target, deed.changed)
    assert (row.source, row.outcome) == ("http", "done")
    assert row.request_id == response.headers["X-Request-ID"]


@pytest.mark.parametrize("name", AGAIN)
def test_a_deed_that_changes_nothing_leaves_no_row(world, clients, trail, name):
    deed = DEEDS[name]
    call = deed.call(world)
    trail.forget()

    statuses = [send(clients[deed.verification], call).status_code for _ in range(2)]

    assert statuses == [deed.status] * 2
    assert len(trail.read()) == 1


def test_every_route_that_changes_something_leaves_a_row_or_has_a_reason(app):
    changing = {
        (method, rule.rule)
        for rule in app.url_map.iter_rules()
        for method in rule.methods - {"GET", "HEAD", "OPTIONS"}
    }
    recorded = {deed.route for deed in DEEDS.values()}

    assert changing - set(ELSEWHERE) == recorded


def test_the_table_of_deeds_has_every_action_over_http():
    by_others = re.compile(
        r"(users|import|audit|messages?)\..+"  # of many users, of the trail
        r"|user\.exported|password\.set|recovery\.printed"
    )

    told = {deed.action for deed in DEEDS.values()}

    assert {each for each in Action if not by_others.fullmatch(each)} == told


def test_no_row_has_personal_data(services, config, clients, trail):
    """Each call has a marked address, name, reason, role or device, and comes from CLIENT."""
    for deed in DEEDS.values():
        send(clients[deed.verification], deed.call(World(services, config)))

    rows = trail.read()
    told = json.dumps([list(row) for row in rows], default=str)
    assert len(rows) > len(DEEDS)
    assert MARK.lower() not in told.lower()
    assert "@" not in told
    assert CLIENT not in told
    assert PASSWORD not in told
    assert all(row.target is None or UUID(row.target) for row in rows)


def test_after_an_erasure_the_ids_of_the_trail_name_nobody(do, trail, database):
    do(DEEDS["erase"])

    (row,) = trail.read()
    with pytest.raises(UserNotFound):
        service.get_user(database, UUID(row.target))


def test_wrong_log_ins_leave_no_row(world, clients, trail):
    """A row would tell that there is such a user, and a guesser could fill the table.

    Twenty stand for any number: no statement writes, so that none of them could leave a row.
    """
    wrong = {"grant_type": "password", "password": "wrong", "username": world.user.email}
    unknown = wrong | {"username": "nobody@example.com"}
    trail.forget()

    with sent_by(world.database) as statements:
        answers = [send(clients["off"], log_in(form)) for form in (wrong, unknown) * 10]

    assert {each.status_code for each in answers} == {400}
    assert trail.read() == []
    assert len(statements) == 20
    assert all(each.startswith("SELECT") for each in statements)


def log_in(form):
    return Call("POST", "/auth/token", form=form)


def test_users_who_register_leave_no_row_and_cost_what_they_did(clients, trail, database):
    document = {"email": "ada@example.com", "name": NAME}
    trail.forget()

    with sent_by(database) as statements:
        response = send(clients["off"], Call("POST", "/users", json=document))

    assert response.status_code == 201
    assert trail.read() == []
    assert not any("audit_events" in each for each in statements)


def test_users_who_change_themselves_leave_no_row(world, clients, trail):
    trail.forget()

    response = send(clients["off"], Call("PATCH", world.path, world.bearer, {"name": NAME}))

    assert response.status_code == 200
    assert trail.read() == []


def test_a_user_who_registers_another_is_named(world, clients, trail):
    document = {"email": "ada@example.com", "name": NAME}

    response = send(clients["off"], Call("POST", "/users", world.bearer, document))

    (row,) = trail.read()
    assert row.target == response.json["id"]
    assert (row.actor_kind, row.actor_id) == ("user", str(world.user.id))


def test_a_log_in_that_ends_the_oldest_says_so(do, world, trail, monkeypatch):
    monkeypatch.setattr(logins, "MAX_LOG_INS", 1)
    world.log_in()

    do(DEEDS["log in"])

    (row,) = trail.read()
    assert row.changed == ["sessions"]


@pytest.mark.parametrize(
    ("name", "status"),
    [("change a name", 412), ("register a user", 409), ("demote", 409), ("suspend", 404)],
)
def test_a_deed_that_is_refused_leaves_no_row(world, clients, trail, name, status):
    call = DEEDS[name].call(world)
    call = refused(world, name, call)
    trail.forget()

    response = send(clients["off"], call)

    assert response.status_code == status
    assert trail.read() == []


def refused(world, name, call):
    if name == "change a name":
        return Call(call.method, call.path, call.headers | {"If-Match": '"9"'}, call.json)
    if name == "register a user":
        return Call(*("POST", "/users", KEY), {"email": world.user.email, "name": NAME})
    if name == "suspend":
        service.delete_user(world.database, world.user.id)
        return call
    # The caller is the only superuser who could log in, and asks to be one no more.
    world.write(is_superuser=False)
    return Call("DELETE", f"/users/{world.caller_id}/superuser", call.headers)


@pytest.fixture
def full_trail(database):
    """A trail that takes no row."""
    with database.connection() as connection:
        connection.execute(text("ALTER TABLE audit_events RENAME TO elsewhere"))
    yield
    with database.connection() as connection:
        connection.execute(text("ALTER TABLE elsewhere RENAME TO audit_events"))


@pytest.mark.parametrize("name", DEEDS)
def test_a_row_that_cannot_be_stored_undoes_its_deed(world, clients, request, name):
    call = DEEDS[name].call(world)
    before = snapshot(world.database)
    request.getfixturevalue("full_trail")

    response = send(clients[DEEDS[name].verification], call)

    assert response.status_code == 503
    assert snapshot(world.database) == before
