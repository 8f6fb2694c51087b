"""A deed and its row are stored together, or not at all."""

from __future__ import annotations

from contextlib import suppress

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, Text, insert, select, update
from sqlalchemy.exc import IntegrityError

from chassis.actor import ActorKind, act_as, acting, actor
from chassis.storage.audit import events, new_event, record, run_recorded
from tests.support.statements import sent_by
from tests.support.tables import existing


@pytest.fixture(autouse=True)
def _actor():
    with acting(actor.get()):
        act_as(ActorKind.KEY, "environment")
        yield


def rows(database):
    with database.connection() as connection:
        return connection.execute(select(events)).all()


def test_a_row_says_who_did_what_to_whom(database):
    with database.transaction() as connection:
        record(connection, "thing.changed", "b", changed={"roles", "name"})

    (row,) = rows(database)
    assert (row.actor_kind, row.actor_id, row.source) == ("key", "environment", "worker")
    assert (row.action, row.target, row.outcome) == ("thing.changed", "b", "done")
    assert row.changed == ["name", "roles"]
    assert row.at.tzinfo is not None


def test_a_row_goes_with_the_transaction_of_its_deed(database):
    with suppress(RuntimeError), database.transaction() as connection:
        record(connection, "thing.changed", "b")
        raise RuntimeError

    assert rows(database) == []


@pytest.fixture
def thing(database):
    """A table with one row: a deed is done to it."""
    table = Table(
        "things", MetaData(), Column("id", Integer, primary_key=True), Column("name", Text)
    )
    with existing(table, database):
        with database.connection() as connection:
            connection.execute(insert(table).values(id=1, name="old"))
        yield table


def rename(database, thing, number, event):
    change = update(thing).where(thing.c.id == number).values(name="new").returning(thing.c.name)
    with database.one_statement() as connection:
        return run_recorded(connection, change, event)


def test_a_change_and_its_row_are_one_statement_on_postgresql(database, thing):
    event_of_it = new_event("thing.changed", "1", changed={"name"})

    with sent_by(database) as statements:
        found = rename(database, thing, 1, event_of_it)

    assert found == ("new",)
    assert [(each.action, each.changed) for each in rows(database)] == [("thing.changed", ["name"])]
    assert len(statements) == (3 if database.is_sqlite else 1)  # with BEGIN


def test_a_change_of_nothing_leaves_no_row(database, thing):
    assert rename(database, thing, 2, new_event("thing.changed", "2")) is None
    assert rename(database, thing, 1, None) == ("new",)

    assert rows(database) == []


def test_a_row_that_cannot_be_stored_undoes_its_change(database, thing):
    twice = new_event("thing.changed", "1")
    rename(database, thing, 1, twice)
    with database.connection() as connection:
        connection.execute(update(thing).values(name="old"))

    with pytest.raises(IntegrityError):
        rename(database, thing, 1, twice)

    with database.connection() as connection:
        assert connection.scalar(select(thing.c.name)) == "old"
    assert len(rows(database)) == 1
