"""The export of a person: all that is stored, but secrets."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from uuid import UUID

import pytest
from sqlalchemy import Table, select

from chassis.background.outbox import messages
from chassis.schemas import Schema
from chassis.storage.audit import events
from chassis.storage.idempotency import keys
from tests.conftest import make_app
from tests.support.deeds import store
from tests.support.factories import bearer_of, make_user
from tests.support.keys import key_of
from userservice.actions import Action
from userservice.logins.queries import tokens
from userservice.passwords.recovery import ask_for_recovery
from userservice.privacy.queries import WITHHELD
from userservice.privacy.schemas import AnswerRead, DeedRead, LogInRead, MessageRead, PersonRead
from userservice.scopes import Scope
from userservice.standing.service import set_roles, suspend
from userservice.users.queries import users
from userservice.users.service import delete_user

PASSWORD = "correct horse battery"
PERSON = {"email": "grace@example.org", "name": "Grace", "password": PASSWORD, "source": "web"}

# Table -> columns that the export leaves out: secrets, keys that follow from others, and the user.
LEFT_OUT: dict[Table, Collection[str]] = {
    users: WITHHELD,
    tokens: {"token_hash", "salt", "spent_at", "family_id", "user_id"},
    keys: {"id", "request_hash", "subject_id"},
    messages: set(),
    events: {"id", "actor_id", "target", "request_id", "trace_id"},
}
SHOWN: dict[Table, type[Schema]] = {
    users: PersonRead,
    tokens: LogInRead,
    keys: AnswerRead,
    messages: MessageRead,
    events: DeedRead,
}


def export(caller, user_id, headers=None):
    response = caller.get(f"/users/{user_id}/export", headers=headers)
    assert response.status_code == 200
    return response


@pytest.mark.parametrize("table", SHOWN, ids=str)
def test_each_column_is_exported_or_left_out_on_purpose(table):
    columns = {column.name for column in table.c}

    assert columns - set(SHOWN[table].model_fields) == set(LEFT_OUT[table])


def test_a_user_gets_all_that_is_stored(client, config, database):
    headers = {"Idempotency-Key": "k", "User-Agent": "x"}
    created = client.post("/users", json=PERSON, headers=headers).json
    user = SimpleNamespace(id=UUID(created["id"]))
    set_roles(database, user.id, ["navy:admiral"])
    ask_for_recovery(database, PERSON["email"])
    own = bearer_of(database, config, user)

    response = export(client, user.id, own)

    assert response.headers["Cache-Control"] == "private, no-cache"
    assert response.headers["Content-Disposition"] == (
        f'attachment; filename="user-{user.id}.json"'
    )
    told = response.json
    assert told["user"].items() >= {**created, "signup_source": "web", "tier": "free"}.items()
    assert (told["user"]["has_password"], told["user"]["roles"]) == (True, ["navy:admiral"])
    assert [each["label"] for each in told["sessions"]] == [None]
    assert [each["topic"] for each in told["messages"]] == [
        "user.registered",
        "user.recovery_requested",
    ]
    [answer] = told["answers"]
    assert json.loads(json.loads(answer["answer"])[2]) == created


def test_no_secret_is_in_it(service_client, config, database):
    user = make_user(database, password=PASSWORD)
    bearer_of(database, config, user)

    text = export(service_client, user.id).text

    with database.connection() as connection:
        [row] = connection.execute(users.select()).all()
        [token] = connection.execute(tokens.select()).all()
    assert row.password_hash not in text
    assert token.token_hash not in text
    assert "$argon2" not in text


def test_an_administrator_gets_the_reason_of_a_suspension(service_client, database):
    user = make_user(database)
    suspend(database, user.id, "Chargeback")

    told = export(service_client, user.id).json["user"]

    assert (told["status"], told["suspension_reason"]) == ("suspended", "Chargeback")
    assert told["suspended_at"] is not None


def test_nothing_of_others_is_in_it(service_client, database):
    user, other = make_user(database), make_user(database)

    text = export(service_client, user.id).text

    assert str(other.id) not in text
    assert other.email not in text


def test_deeds_are_told_without_the_ids_of_others(service_client, database):
    user, other = make_user(database), make_user(database)
    store(database, actor_id=str(other.id), target=str(user.id), action="user.suspended")
    store(database, actor_id=str(user.id), target=str(other.id), action="user.deleted")
    store(database, actor_id=str(other.id), target=str(other.id), action="user.erased")

    answer = export(service_client, user.id)

    told = {each["action"]: each for each in answer.json["deeds"]}
    suspended, deleted = told["user.suspended"], told["user.deleted"]
    assert (suspended["is_actor"], suspended["is_target"]) == (False, True)
    assert (deleted["is_actor"], deleted["is_target"]) == (True, False)
    assert suspended["changed"] == ["name"]
    assert "user.erased" not in told
    assert str(other.id) not in answer.text


def test_of_many_deeds_the_newest_are_told(service_client, database, monkeypatch):
    monkeypatch.setattr("userservice.privacy.service.SHOWN_DEEDS", 2)
    user = make_user(database)
    for days, action in enumerate(("user.changed", "user.demoted"), start=1):
        store(database, age=timedelta(days=days), target=str(user.id), action=action)

    told = export(service_client, user.id).json["deeds"]

    assert [each["action"] for each in told] == ["user.created", "user.changed"]


def test_of_a_deleted_user_nothing_is_found(service_client, database):
    user = make_user(database)
    delete_user(database, user.id)

    assert service_client.get(f"/users/{user.id}/export").json["code"] == "user_not_found"


def test_users_cannot_fill_the_trail_by_exports(config, services, database):
    """Each export is a deed; those with the scope for it may export as many users as there are."""
    user = make_user(database)
    limited = replace(config, rate_limit_enabled=True, rate_limit_export="2/hour")
    client, path = make_app(limited, services).test_client(), f"/users/{user.id}/export"
    bearer, key = bearer_of(database, config, user), key_of(database, Scope.USERS_EXPORT)

    own = [client.get(path, headers=bearer).status_code for _ in range(3)]
    with database.connection() as connection:
        deeds = connection.scalars(select(events.c.action)).all()
    services_own = [client.get(path, headers=key).status_code for _ in range(3)]

    assert own == [200, 200, 429]
    assert deeds.count(Action.USER_EXPORTED) == 2
    assert services_own == [200] * 3
