"""Few users are suspended, and fewer are superusers: they are found without reading the others."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

import pytest
from sqlalchemy import event, insert, text

from chassis.storage.ids import uuid7
from userservice.users import superusers
from userservice.users.models import Status
from userservice.users.queries import users
from userservice.users.service import list_users


def list_suspended(database):
    list_users(database, status=Status.SUSPENDED, email=None, after=uuid4(), limit=50)


def lock_superusers(database):
    with database.transaction() as connection:
        superusers.hold(connection, uuid4())


@pytest.fixture
def explained(database):
    """Call that does work among many users, and returns the plan of its statement about them."""
    now, seen = datetime.now(UTC), []
    row = {
        "name": "Ada",
        "status": "active",
        "signup_source": "web",
        "tier": "free",
        "is_superuser": False,
        "version": 1,
        "created_at": now,
        "updated_at": now,
    }
    rows = [{"id": uuid7(), "email": str(n), "email_key": str(n), **row} for n in range(3000)]
    with database.transaction() as connection:
        connection.execute(insert(users), rows)
        connection.execute(text("ANALYZE users"))

    def note(_cursor, statement, values, _context):
        if "FROM users" in statement:
            seen.append((statement, values))

    def explain(work):
        event.listen(database.engine, "do_execute", note)
        work(database)
        event.remove(database.engine, "do_execute", note)
        [(statement, values)] = seen
        word = "EXPLAIN QUERY PLAN" if database.is_sqlite else "EXPLAIN"
        with database.transaction() as connection:
            return str(connection.exec_driver_sql(f"{word} {statement}", values).all())

    return explain


def test_suspended_users_are_found_by_an_index_of_their_own(explained):
    assert "ix_users_suspended" in explained(list_suspended)


def test_superusers_are_found_by_an_index_of_their_own(database, explained):
    if database.is_sqlite:
        pytest.skip("SQLite uses no partial index within OR; an embedded table is small")

    plan = explained(lock_superusers)

    assert "ix_users_superusers" in plan
    assert "Seq Scan" not in plan
