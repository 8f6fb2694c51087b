"""The deeds about keys in the audit trail, and the rights that a deed rests on."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from chassis.errors import Forbidden, Unauthenticated
from chassis.storage import audit
from tests.conftest import API_KEY
from tests.support.factories import CHEAP_HASHER, bearer_of, make_user
from tests.support.keys import key_header, make_key
from tests.support.orders import hold_everywhere
from userservice.keys import service
from userservice.keys.schemas import KeyCreate
from userservice.keys.service import Maker, list_keys, revoke_key
from userservice.scopes import Scope
from userservice.standing.rights import demote
from userservice.users.credentials import check_password

PASSWORD = "correct horse battery"
BODY = {"name": "billing", "scopes": ["users:read"]}
NEW = KeyCreate.model_validate(BODY)


def events(database):
    """Return the rows of the trail about keys, the oldest first."""
    statement = select(audit.events).where(audit.events.c.action.startswith("key."))
    with database.connection() as connection:
        return connection.execute(statement.order_by(audit.events.c.id)).all()


def rows(database):
    return list_keys(database, status=None, after=None, limit=100)


def test_a_deed_names_the_one_who_did_it_the_key_and_its_members(client, config, database):
    superuser = make_user(database, is_superuser=True, password=PASSWORD)
    manager = make_key(database, Scope.KEYS_MANAGE, Scope.USERS_READ)
    callers = [{"X-API-Key": API_KEY}, bearer_of(database, config, superuser), key_header(manager)]
    body = BODY | {"current_password": PASSWORD, "expires_at": "2999-01-01T00:00:00Z"}

    made = [client.post("/api-keys", json=body, headers=each).json["id"] for each in callers]
    client.delete(f"/api-keys/{made[0]}", headers=callers[2])

    found = [
        (each.actor_kind, each.actor_id, each.source, each.action, each.target, each.changed)
        for each in events(database)[1:]
    ]
    created, members = "key.created", ["expires_at", "name", "scopes"]
    assert found == [
        ("key", "environment", "http", created, made[0], members),
        ("user", str(superuser.id), "http", created, made[1], members),
        ("key", manager.row.id.hex, "http", created, made[2], members),
        ("key", manager.row.id.hex, "http", "key.revoked", made[0], ["revoked_at"]),
    ]


def test_a_deed_that_is_refused_or_changes_nothing_leaves_no_row(client, service_client, database):
    manager = make_key(database, Scope.KEYS_MANAGE)
    other = make_key(database, Scope.USERS_ADMIN)
    revoke_key(database, other.row.id)
    before = events(database)

    client.post("/api-keys", json=BODY, headers=key_header(manager))
    client.delete(f"/api-keys/{other.row.id.hex}", headers=key_header(manager))
    service_client.delete(f"/api-keys/{other.row.id.hex}")
    service_client.delete(f"/api-keys/{'0' * 32}")
    service_client.post("/api-keys", json=BODY | {"expires_at": "2020-01-01T00:00:00Z"})

    assert events(database) == before


def test_a_deed_whose_row_cannot_be_stored_is_not_done(service_client, database):
    made = make_key(database, Scope.USERS_READ)
    before = rows(database)
    with database.connection() as connection:
        connection.exec_driver_sql("ALTER TABLE audit_events RENAME TO away")

    try:
        answers = [
            service_client.post("/api-keys", json=BODY).status_code,
            service_client.delete(f"/api-keys/{made.row.id.hex}").status_code,
        ]
    finally:
        with database.connection() as connection:
            connection.exec_driver_sql("ALTER TABLE away RENAME TO audit_events")

    assert answers == [503, 503]
    assert rows(database) == before


def test_a_key_that_is_revoked_while_it_makes_another_makes_none_after_that(database):
    """Another process may remember it for a moment, and a key must not be made in that time."""
    made = []

    def prepare():
        manager = make_key(database, Scope.KEYS_MANAGE, name="manager")
        made.append(manager)
        maker = Maker(manager.row.id.hex, is_key=True)
        return (
            lambda: service.create_key(database, NEW, maker),
            lambda: revoke_key(database, manager.row.id),
        )

    def check():
        with pytest.raises(Unauthenticated):
            service.create_key(database, NEW, Maker(made[-1].row.id.hex, is_key=True))

    assert hold_everywhere(database, prepare, check, Unauthenticated) > 2


@pytest.mark.parametrize("change", ["demoted", "another password"])
def test_a_superuser_who_is_none_any_more_makes_no_key(database, change):
    make_user(database, is_superuser=True, password=PASSWORD)
    superuser = make_user(database, is_superuser=True, password=PASSWORD)
    checked = check_password(database, CHEAP_HASHER, superuser.id, PASSWORD)
    if change == "demoted":
        demote(database, superuser.id)
    else:
        checked = checked._replace(password_hash="the one before")

    with pytest.raises(Forbidden):
        service.create_key(database, NEW, Maker(str(superuser.id), checked))

    assert not rows(database)
