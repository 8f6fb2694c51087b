"""A record is worth nothing unless it can be replayed."""

from __future__ import annotations

from contextlib import closing

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError

from chassis.storage import migrations
from chassis.storage.columns import Base
from chassis.storage.copying import copy_rows
from chassis.storage.database import DatabaseManager
from tests.upgrades.record import record
from tests.upgrades.statements import recording, replay

pytestmark = pytest.mark.integration

TABLE = text("CREATE TEMP TABLE noted (number text PRIMARY KEY, value text) ON COMMIT DROP")
INSERT = text("INSERT INTO noted VALUES (:number, :value || '  100%;\n')")
CONTENT = text("SELECT number, value FROM noted ORDER BY number")
AWKWARD = [
    "",
    " a  b\n\n c ",
    "it's; 'so'",
    ";\n",
    "\\.",
    "\\n\\",
    "100 %s %(x)s",
    '"',
    "\u2028",
    "\r",
]


@pytest.fixture
def database(postgresql_url):
    """A database with all tables, which are empty."""
    with closing(DatabaseManager(postgresql_url).initialize()) as manager:
        yield manager


# Times by the database's own clock differ each time. So what a replay ends is not old enough for
# the purge in it: deleted users and jobs do not count.
CLOCKED = {
    "api_keys": {"created_at", "expires_at", "revoked_at"},
    "audit_events": {"at"},
    "idempotency_keys": {"created_at"},
    "outbox_messages": {"due_at", "expires_at"},
    "users": {"password_changed_at", "sessions_ended_at", "updated_at"},
}


PURGED_BY_AGE = {"jobs", "job_errors"}


def content(url):
    """Return the rows of every table, but for those that a purge takes by their age."""
    with closing(DatabaseManager(url).initialize()) as manager, manager.connection() as connection:
        return {
            table.name: sorted(map(repr, connection.execute(kept_in(table))))
            for table in Base.metadata.sorted_tables
            if table.name not in PURGED_BY_AGE
        }


def kept_in(table):
    columns = [each for each in table.c if each.name not in CLOCKED.get(table.name, ())]
    statement = select(*columns)
    return statement.where(table.c.status != "deleted") if table.name == "users" else statement


def test_all_that_this_release_does_can_be_done_again_on_the_schema_of_now(
    empty_postgresql_url, postgresql_url, database, tmp_path
):
    file = record(empty_postgresql_url, tmp_path)

    with database.transaction() as connection:
        count = replay(connection, file)

    assert file.name == f"{migrations.head()}.sql"
    assert count > 50
    again = content(postgresql_url)
    assert len(again["users"]) == 2
    assert again == content(empty_postgresql_url)


@pytest.mark.parametrize("value", AWKWARD)
def test_any_value_is_replayed_as_it_was(database, tmp_path, value):
    file = tmp_path / "recorded.sql"
    with recording(database.engine) as statements, database.transaction() as connection:
        connection.execute(TABLE)
        connection.execute(INSERT, [{"number": each, "value": value} for each in ("1", "2")])
        copy_rows(connection, "noted", ["number", "value"], [["3", value], ["4", None]], {})
        stored = connection.execute(CONTENT).all()
    file.write_bytes("".join(statements).encode())

    with database.transaction() as connection:
        replay(connection, file)
        again = connection.execute(CONTENT).all()

    assert again == stored
    assert [row.value for row in stored] == [f"{value}  100%;\n"] * 2 + [value, None]


def test_a_statement_that_failed_is_not_replayed(database, tmp_path):
    file = tmp_path / "recorded.sql"
    with recording(database.engine) as statements, database.transaction() as connection:
        connection.execute(TABLE)
        connection.execute(INSERT, {"number": "1", "value": "kept"})
        with pytest.raises(IntegrityError), connection.begin_nested():
            connection.execute(INSERT, {"number": "1", "value": "refused"})
    file.write_bytes("".join(statements).encode())

    with database.transaction() as connection:
        replay(connection, file)
        again = connection.execute(CONTENT).all()

    assert [row.number for row in again] == ["1"]
