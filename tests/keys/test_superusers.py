"""API keys with names and scopes do not reach superusers, whatever happens at the same time."""

from __future__ import annotations

from typing import Any, NamedTuple
from uuid import UUID

import pytest
from sqlalchemy import select

from chassis.actor import Actor, ActorKind, Source, acting
from chassis.background.outbox import messages
from tests.conftest import API_KEY
from tests.support.factories import begin_log_in, make_user
from tests.support.keys import key_of
from tests.support.orders import hold_everywhere
from tests.support.routes import accesses
from userservice.logins.models import RefreshToken
from userservice.passwords.recovery import recover
from userservice.privacy.service import erase
from userservice.scopes import Scope
from userservice.sessions.service import end_session
from userservice.standing.rights import promote
from userservice.standing.service import reinstate, set_roles, suspend
from userservice.users.errors import SuperuserProtected, UserNotFound
from userservice.users.queries import users
from userservice.users.schemas import UserUpdate
from userservice.users.service import delete_user, update_user

NAMED = Actor(ActorKind.KEY, "0" * 32, Source.HTTP)
NOBODY = "0" * 32
USER = "/users/<uuid:user_id>"


class Deed(NamedTuple):
    """A change that a key may ask for, and the answer to the key of the environment about it."""

    method: str
    rule: str
    status: int
    body: dict[str, object] | None = None
    query: str = ""

    def __call__(self, client, victim, headers):
        """Ask for it."""
        user, session_id = victim
        path = self.rule.replace("<uuid:user_id>", str(user.id))
        path = path.replace("<uuid:session_id>", str(session_id)) + self.query
        return client.open(path, method=self.method, json=self.body, headers=headers)


DEEDS = {
    "name": Deed("PATCH", USER, 200, {"name": "Other"}),
    "address": Deed("PATCH", USER, 200, {"email": "other@example.com"}),
    "both": Deed("PATCH", USER, 200, {"email": "other@example.com", "name": "Other"}),
    "deletion": Deed("DELETE", USER, 204),
    "erasure": Deed("DELETE", USER, 403, query="?erase=now"),
    "suspension": Deed("PUT", f"{USER}/suspension", 204, {"reason": "Chargeback"}),
    "reinstatement": Deed("DELETE", f"{USER}/suspension", 204),
    "roles": Deed("PUT", f"{USER}/roles", 204, {"roles": ["a"]}),
    "recovery": Deed("POST", f"{USER}/recovery", 202),
    "session": Deed("DELETE", f"{USER}/sessions/<uuid:session_id>", 204),
}
each_deed = pytest.mark.parametrize("deed", DEEDS.values(), ids=DEEDS)


@pytest.fixture
def make_victim(database, config):
    """Call that registers a user with a log-in; returns the user and the log-in."""

    def make(**values):
        user = make_user(database, password="correct horse battery", **values)
        begin_log_in(database, config, user)
        with database.connection() as connection:
            tokens = select(RefreshToken.family_id).where(RefreshToken.user_id == user.id)
            return user, connection.execute(tokens).scalar_one()

    return make


def stored(database, user):
    """Return all that is stored of a user, but for the rights."""
    about = (
        select(*(column for column in users.c if column.name != "is_superuser")).where(
            users.c.id == user.id
        ),
        select(RefreshToken.__table__).where(RefreshToken.user_id == user.id),
    )
    with database.connection() as connection:
        rows = [connection.execute(each).all() for each in about]
        sent = [
            row.id
            for row in connection.execute(select(messages.c.id, messages.c.payload))
            # SQLite makes some of them, with an id of its own form.
            if UUID(row.payload.get("user_id", NOBODY)) == user.id
        ]
    return rows, sorted(sent)


def test_the_table_leaves_out_no_route_by_which_a_key_changes_a_user(app):
    routes = {
        (method, rule)
        for (method, rule), access in accesses(app).items()
        if method not in {"GET", "HEAD"} and "user_id" in rule and access.scope is not None
    }

    assert routes == {(each.method, each.rule) for each in DEEDS.values()}


@each_deed
def test_no_named_key_changes_a_superuser(client, database, make_victim, deed):
    victim, _ = make_victim(is_superuser=True), make_victim(is_superuser=True)
    before = stored(database, victim[0])

    response = deed(client, victim, key_of(database, *Scope))

    assert response.status_code == 403
    assert response.json["code"] == "superuser_protected"
    assert stored(database, victim[0]) == before


@each_deed
def test_a_named_key_changes_users_who_are_none(client, database, make_victim, deed):
    response = deed(client, make_victim(), key_of(database, *Scope))

    assert response.status_code in {200, 202, 204}


@each_deed
def test_the_key_of_the_environment_may_do_what_it_did(client, make_victim, deed):
    victim, _ = make_victim(is_superuser=True), make_victim(is_superuser=True)

    response = deed(client, victim, {"X-API-Key": API_KEY})

    assert response.status_code == deed.status
    assert deed.status != 403 or response.json["code"] == "forbidden"


def test_a_condition_that_fails_is_told_as_such(client, database, make_victim):
    headers = key_of(database, *Scope) | {"If-Match": '"7"'}
    victim = make_victim()

    statuses = [DEEDS[name](client, victim, headers).status_code for name in ("name", "deletion")]

    assert statuses == [412, 412]


def test_a_superuser_who_is_deleted_is_not_there_for_a_key_either(client, database, make_victim):
    victim, _ = make_victim(is_superuser=True), make_victim(is_superuser=True)
    delete_user(database, victim[0].id)
    headers = key_of(database, *Scope)

    statuses = {
        name: deed(client, victim, headers).status_code
        for name, deed in DEEDS.items()
        if name != "erasure"  # which is for deleted users, too
    }

    assert set(statuses.values()) == {404}


WORKS = {
    "name": lambda services, user, _: update_user(
        services.database, user.id, UserUpdate(name="Other")
    ),
    "address": lambda services, user, _: update_user(
        services.database, user.id, UserUpdate(email=f"new.{user.email}"), is_announced=True
    ),
    "deletion": lambda services, user, _: delete_user(services.database, user.id),
    "erasure": lambda services, user, _: erase(services.database, user.id),
    "suspension": lambda services, user, _: suspend(services.database, user.id),
    "reinstatement": lambda services, user, _: reinstate(services.database, user.id),
    "roles": lambda services, user, _: set_roles(services.database, user.id, ["a"]),
    "recovery": lambda services, user, _: recover(services, user.id),
    "session": lambda services, user, session: end_session(services.database, user.id, session),
}


@pytest.mark.parametrize("work", WORKS.values(), ids=WORKS)
def test_a_user_who_is_promoted_meanwhile_is_changed_before_that_or_spared(
    services, make_victim, work
):
    database, refused = services.database, []
    seen: dict[str, Any] = {}
    make_victim(is_superuser=True)

    def prepare():
        user, session_id = make_victim()
        if work is WORKS["reinstatement"]:
            suspend(database, user.id)
        seen.update(user=user, before=stored(database, user))

        def deed():
            with acting(NAMED):
                try:
                    work(services, user, session_id)
                except SuperuserProtected:
                    refused.append(True)
                else:
                    refused.append(False)

        return (lambda: promote(database, user.id)), deed

    def check():
        assert (stored(database, seen["user"]) == seen["before"]) == refused[-1]

    assert hold_everywhere(database, prepare, check, UserNotFound) >= 3
    # The promotion that is held before it begins comes second; from its first lock on it is first.
    assert refused[0] is False
    assert all(refused[1:])
