"""Suspended users during a rollout and after a rollback: the release before lets none in."""

from __future__ import annotations

import re
from contextlib import closing
from pathlib import Path
from uuid import UUID

import argon2
import pytest

from app import create_app
from bootstrap import open_backing_services
from chassis.storage.database import DatabaseManager
from config import AppConfig
from tests.upgrades.record import KEY, PASSWORD
from tests.upgrades.statements import replay
from userservice.standing.service import suspend

pytestmark = pytest.mark.integration

FILE = Path(__file__).resolve().parent / "0007.sql"
RECORDED = FILE.read_text(encoding="utf-8").splitlines()
FORM = {"grant_type": "password", "username": "ada@example.com", "password": PASSWORD}
LOOKS_UP = "SELECT users.id, users.password_hash, users.email"
LOCKS = "SELECT users.id, users.password_hash FROM users"
SPENDS = "UPDATE refresh_tokens SET spent_at"
LISTS = "SELECT users.id, users.email, users.name, users.status"


@pytest.fixture
def database(postgresql_url):
    """A database with the users of the release before, and one log-in of the first."""
    with closing(DatabaseManager(postgresql_url).initialize()) as manager:
        with manager.transaction() as connection:
            replay(connection, FILE, until=SPENDS)
        yield manager


@pytest.fixture
def client(postgresql_url):
    """A caller of this release, with the API key."""
    config = AppConfig(
        database_url=postgresql_url,
        redis_url="",
        api_key=KEY["X-API-Key"],
        rate_limit_enabled=False,
    )
    services = open_backing_services(config)
    caller = create_app(config, services).test_client()
    caller.environ_base["HTTP_X_API_KEY"] = KEY["X-API-Key"]
    yield caller
    services.close()


@pytest.fixture
def user_id():
    found = next(each for each in RECORDED if each.startswith(LOCKS))
    return UUID(re.findall(r"'([0-9a-f-]{36})'", found)[0])


def do_as_before(database, beginning):
    """Send the first recorded statement that begins so; return its rows, or how many it changed."""
    recorded = next(each for each in RECORDED if each.startswith(beginning)).rstrip(";")
    with database.connection() as connection:
        result = connection.exec_driver_sql(recorded)
        return result.all() if result.returns_rows else result.rowcount


def test_the_release_before_takes_no_password_of_a_suspended_user(database, user_id):
    [(_, verified, _)] = do_as_before(database, LOOKS_UP)
    argon2.PasswordHasher().verify(verified, PASSWORD)

    suspend(database, user_id)

    [(_, locked, _)] = do_as_before(database, LOOKS_UP)
    with pytest.raises(argon2.exceptions.InvalidHashError):
        argon2.PasswordHasher().verify(locked, PASSWORD)


def test_a_log_in_that_the_release_before_has_verified_already_is_granted_nothing(
    database, user_id
):
    [(_, verified, _)] = do_as_before(database, LOOKS_UP)

    suspend(database, user_id)

    # It grants only if the locked row has the very hash that it verified.
    [(_, locked)] = do_as_before(database, LOCKS)
    assert locked != verified


def test_the_release_before_renews_no_log_in_of_a_suspended_user(database, user_id):
    suspend(database, user_id)

    assert do_as_before(database, SPENDS) == 0


def test_the_release_before_reads_and_changes_a_suspended_user_who_stays_one(
    database, client, user_id
):
    suspend(database, user_id)

    listed = do_as_before(database, LISTS)
    renamed = do_as_before(database, "UPDATE users SET name")

    assert {row.status for row in listed} == {"active"}
    assert len(renamed) == 1
    document = client.get(f"/users/{user_id}").json
    assert (document["name"], document["status"]) == ("Ada L.", "suspended")


def test_after_a_rollback_and_another_rollout_a_suspended_user_is_one_still(
    database, client, user_id
):
    suspend(database, user_id, "Chargeback")
    do_as_before(database, "UPDATE users SET name")
    do_as_before(database, "UPDATE users SET sessions_ended_at")

    refused = client.post("/auth/token", data=FORM)
    account = client.get(f"/users/{user_id}/account").json
    client.delete(f"/users/{user_id}/suspension")

    assert refused.status_code == 400
    assert (account["standing"], account["suspension_reason"]) == ("suspended", "Chargeback")
    assert client.post("/auth/token", data=FORM).status_code == 200


def test_a_user_whom_the_release_before_deleted_while_suspended_is_deleted(
    database, client, user_id
):
    suspend(database, user_id)

    do_as_before(database, "UPDATE users SET status='deleted'")

    assert client.get(f"/users/{user_id}").status_code == 404
    [deleted] = client.get("/users?status=deleted").json["items"]
    assert (deleted["id"], deleted["status"]) == (str(user_id), "deleted")
