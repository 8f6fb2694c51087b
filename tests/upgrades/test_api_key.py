"""An upgrade that sets nothing new: callers with API_KEY are served as the release before does."""

from __future__ import annotations

import re
from contextlib import closing
from pathlib import Path
from uuid import UUID

import pytest

from app import create_app
from bootstrap import open_backing_services
from chassis.storage import idempotency
from chassis.storage.database import DatabaseManager
from config import AppConfig
from tests.upgrades.record import KEY
from tests.upgrades.statements import recording, replay

pytestmark = pytest.mark.integration

FILE = Path(__file__).resolve().parent / "0008.sql"
VALUE = re.compile(r"'[^']*'|\b\d+\b")
BODY = b'{"email": "c@example.com", "name": "Ada"}'
STORED = '[201, {"Content-Type": "application/json"}, "{\\"id\\": \\"before\\"}"]'


@pytest.fixture
def database(postgresql_url):
    """A database with the users of the release before."""
    with closing(DatabaseManager(postgresql_url).initialize()) as manager:
        with manager.transaction() as connection:
            replay(connection, FILE, until="DELETE")
        yield manager


@pytest.fixture
def services(postgresql_url):
    opened = open_backing_services(config(postgresql_url))
    yield opened
    opened.close()


@pytest.fixture
def client(postgresql_url, services):
    """A caller of this release, with the API key."""
    caller = create_app(config(postgresql_url), services).test_client()
    caller.environ_base["HTTP_X_API_KEY"] = KEY["X-API-Key"]
    return caller


def config(url):
    return AppConfig(
        database_url=url, redis_url="", api_key=KEY["X-API-Key"], rate_limit_enabled=False
    )


def shape(statement):
    """Return a statement without its values."""
    return VALUE.sub("?", statement.strip().rstrip(";"))


@pytest.mark.usefixtures("database")
def test_what_it_reads_it_reads_by_the_statements_of_the_release_before(client, services):
    before = {shape(line) for line in FILE.read_text(encoding="utf-8").splitlines()}
    client.get("/users?page_size=1")  # opens the connection
    [user, *_] = client.get("/users").json["items"]

    with recording(services.database.engine) as sent:
        answers = [
            client.get(path)
            for path in (f"/users/{user['id']}", "/users?page_size=1", "/users?status=deleted")
        ]

    assert [each.status_code for each in answers] == [200, 200, 200]
    assert answers[0].json == user
    assert [each for each in map(shape, sent) if each not in before] == []
    assert len(sent) == 3


def test_its_stored_answers_are_found(client, database):
    request = idempotency.Request("service create_user", "c", BODY)
    with database.transaction() as connection:
        idempotency.reserve(connection, request, STORED, subject_id=UUID(int=0))

    again = client.post(
        "/users", data=BODY, content_type="application/json", headers={"Idempotency-Key": "c"}
    )

    assert (again.status_code, again.json) == (201, {"id": "before"})
    assert again.headers["Idempotent-Replayed"] == "true"
