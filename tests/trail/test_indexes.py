"""The trail grows for a year: each question is answered by an index."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from sqlalchemy import event, text

from chassis.storage import trail
from chassis.storage.ids import uuid7
from tests.support.deeds import deeds, store
from userservice.trail import service
from userservice.trail.schemas import EventFilter

ROWS = 20_000


@pytest.fixture
def plan_of(database):
    """Call that does work, and returns the plan of its statement about the trail."""
    store(database, ROWS)
    with database.transaction() as connection:
        connection.execute(text("ANALYZE audit_events"))

    def plan_of(work):
        seen = []

        def note(_cursor, statement, values, _context):
            if "audit_events" in statement:
                seen.append((statement, values))

        event.listen(database.engine, "do_execute", note)
        work()
        event.remove(database.engine, "do_execute", note)
        [(statement, values)] = seen
        word = "EXPLAIN QUERY PLAN" if database.is_sqlite else "EXPLAIN"
        with database.transaction() as connection:
            return str(connection.exec_driver_sql(f"{word} {statement}", values).all())

    return plan_of


def is_read_whole(plan):
    return "Seq Scan" in plan or ("SCAN" in plan and "USING" not in plan)


QUESTIONS = [
    ({}, "pk_audit_events"),
    ({"actor": "0" * 32}, "ix_audit_events_actor"),
    ({"target": "0" * 32}, "ix_audit_events_target"),
    ({"target": "0" * 32, "action": "user.changed"}, "ix_audit_events_target"),
    ({"actor": "operator"}, "ix_audit_events_actor"),
    ({"after": "2999-01-01T00:00:00Z"}, "pk_audit_events"),
]


def test_a_page_is_read_by_an_index(database, plan_of):
    middle = deeds(database)[ROWS // 2].id

    plans = [
        (query, index, plan_of(partial(list_page, database, query, before)))
        for query, index in QUESTIONS
        for before in (None, middle)
    ]

    for query, index, plan in plans:
        # SQLite names the index of a primary key otherwise.
        named = index.replace("pk_", "sqlite_autoindex_") if database.is_sqlite else index
        assert named in plan, (query, plan)
        assert not is_read_whole(plan), (query, plan)


def list_page(database, query, before):
    wanted = EventFilter.load_values(query)
    service.list_events(database, wanted, before=before, limit=51)


def test_the_deeds_about_a_person_are_found_by_both_indexes(database, plan_of):
    def work():
        with database.connection() as connection:
            trail.list_about(connection, uuid7(), limit=1000)

    plan = plan_of(work)

    assert "ix_audit_events_target" in plan
    assert "ix_audit_events_actor" in plan


def test_old_deeds_are_counted_by_the_primary_key(database, plan_of):
    before = datetime.now(UTC) - timedelta(days=365)

    plan = plan_of(lambda: trail.count_old(database, before=before))

    assert not is_read_whole(plan)
    assert len(deeds(database)) == ROWS
