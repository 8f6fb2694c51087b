"""A deed and its row are stored together, or not at all."""

from __future__ import annotations

from contextlib import suppress

import pytest
from sqlalchemy import select

from chassis.actor import ActorKind, act_as, acting, actor
from chassis.storage.audit import events, record


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
