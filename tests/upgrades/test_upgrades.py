"""Two releases live side by side during a rollout; see docs/upgrades.md."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import text

from app import create_app
from bootstrap import open_backing_services
from chassis.storage import migrations
from chassis.storage.database import DatabaseManager
from config import AppConfig
from tests.upgrades import statements
from tests.upgrades.record import KEY, PASSWORD, act

FOLDER = Path(__file__).resolve().parent
HEAD = migrations.head()
PREVIOUS = migrations.revisions()[HEAD]


@pytest.fixture
def database(empty_postgresql_url):
    """The database, without a schema."""
    manager = DatabaseManager(empty_postgresql_url).initialize()
    yield manager
    manager.close()


@pytest.fixture
def client(empty_postgresql_url):
    """A caller of this release."""
    config = AppConfig(
        database_url=empty_postgresql_url,
        redis_url="",
        api_key=KEY["X-API-Key"],
        jwt_secret="s" * 32,
        rate_limit_enabled=False,
    )
    services = open_backing_services(config)
    yield create_app(config, services).test_client()
    services.close()


def migrate(database, revision):
    with migrations.migrating(database) as connection:
        command.upgrade(migrations.alembic_config(connection), revision)


def replay(database, *, until="DELETE"):
    """Do what the previous release did, up to a kind of statement; return how much that was."""
    file = FOLDER / f"{PREVIOUS}.sql"
    assert file.exists(), f"record the release before {HEAD} from its code: see docs/upgrades.md"
    with database.transaction() as connection:
        return statements.replay(connection, file, until=until)


def test_the_new_schema_takes_all_that_the_previous_release_does(database):
    migrate(database, HEAD)

    assert replay(database, until=None) > 10


def test_this_release_reads_what_the_previous_one_wrote_into_the_new_schema(database, client):
    migrate(database, HEAD)
    replay(database)

    read_all(client)
    form = {"grant_type": "password", "username": "ada@example.com", "password": PASSWORD}
    assert client.post("/auth/token", data=form).status_code == 200


def test_this_release_reads_on_the_previous_schema_or_says_that_it_is_behind(database, client):
    migrate(database, PREVIOUS)
    replay(database)

    answers = [client.get(path, headers=KEY) for path in ("/users", "/users/export")]

    if {each.status_code for each in answers} == {200}:
        read_all(client)
    else:
        assert {each.status_code for each in answers} <= {200, 503}
        assert all(each.headers.get("Retry-After") for each in answers if each.status_code == 503)


def read_all(client):
    listed = client.get("/users", headers=KEY)
    assert [each["name"] for each in listed.json["items"]] == ["Ada L.", "Ada"]
    for each in listed.json["items"]:
        assert client.get(f"/users/{each['id']}", headers=KEY).json == each
    assert client.get("/users?status=deleted", headers=KEY).status_code == 200
    exported = client.get("/users/export", headers=KEY, buffered=True)
    assert exported.data.count(b"\n") == 2


def test_a_pod_of_this_release_gets_no_requests_before_the_schema_is_there(database, client):
    migrate(database, PREVIOUS)

    assert client.get("/ready").status_code == 503
    migrate(database, HEAD)
    assert not migrations.is_behind(database)


def test_a_pod_of_the_previous_release_stays_ready_on_a_newer_schema(database, client):
    migrate(database, HEAD)
    with database.connection() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'next'"))

    assert client.get("/ready").status_code == 200


def test_what_is_recorded_is_what_a_client_can_do(database, client):
    """Recording uses the public interface alone, so that it works on any release."""
    migrate(database, HEAD)

    act(client)

    assert client.get("/users", headers=KEY).json["items"][0]["email"] == "b@example.com"
