"""The trail is kept for AUDIT_DAYS, and a purge of it is a deed."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner
from sqlalchemy import text

from admin import AdminCommands, cli
from chassis.settings.variables import ConfigError
from chassis.storage import trail
from config import AppConfig
from tests.support.deeds import actions_of, deeds, store
from userservice.resources import PURGES

DAY = timedelta(days=1)


@pytest.fixture
def clean_up(config, services):
    """Call that runs a cleanup with the trail kept for ten days; returns what it prints."""
    commands = AdminCommands(replace(config, audit_days=10), services)

    def clean_up(*arguments):
        result = CliRunner().invoke(cli, ["cleanup", "--json", *arguments], obj=commands)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)["audit_events"]

    return clean_up


@pytest.mark.parametrize("arguments", [(), ("--days", "0"), ("--days", "36500")], ids=str)
def test_rows_are_purged_by_the_age_of_the_trail_and_no_other(clean_up, database, arguments):
    store(database, 3, age=11 * DAY)
    kept = store(database, 2, age=9 * DAY)

    counted = clean_up("--dry-run", *arguments)
    untouched = len(deeds(database))
    purged = clean_up(*arguments)

    assert (counted, untouched, purged) == (3, 5, 3)
    *rest, about = deeds(database)
    assert [each.id for each in rest] == kept
    assert (about.action, about.actor_kind, about.source) == ("audit.purged", "operator", "command")
    assert (about.target, about.changed, about.outcome) == (None, [], "done")


def test_rows_of_a_host_whose_clock_is_late_are_kept_as_long_as_others(clean_up, database):
    """Ids tell the time of hosts; the age of a row is that of the database."""
    kept = store(database, 2, age=400 * DAY, at=datetime.now(UTC))

    assert (clean_up("--dry-run"), clean_up()) == (0, 0)
    assert [each.id for each in deeds(database)] == kept


def test_a_purge_that_finds_nothing_leaves_no_row(clean_up, database):
    kept = store(database)

    assert clean_up() == 0
    assert [each.id for each in deeds(database)] == kept


def test_each_batch_has_a_row(database, monkeypatch):
    monkeypatch.setattr(trail, "PURGED_ROWS", 2)
    store(database, 5, age=11 * DAY)

    batches = trail.purge_old(database, before=datetime.now(UTC) - 10 * DAY)

    assert next(batches) == 2
    assert actions_of(database) == ["user.changed"] * 3 + ["audit.purged"]
    assert list(batches) == [2, 1]
    assert actions_of(database) == ["audit.purged"] * 3


def test_rows_about_purges_are_purged_as_others_are(database):
    store(database, action="audit.purged", age=11 * DAY)

    assert list(trail.purge_old(database, before=datetime.now(UTC) - 10 * DAY)) == [1]
    assert len(deeds(database)) == 1


def test_nothing_is_purged_without_its_row(database):
    store(database, 3, age=11 * DAY)
    refuse = (
        "CREATE TRIGGER refused BEFORE INSERT ON audit_events BEGIN SELECT RAISE(ABORT, 'no'); END"
        if database.is_sqlite
        else "ALTER TABLE audit_events ADD CONSTRAINT refused CHECK (action <> 'audit.purged')"
    )
    allow = (
        "DROP TRIGGER refused"
        if database.is_sqlite
        else "ALTER TABLE audit_events DROP CONSTRAINT refused"
    )
    with database.connection() as connection:
        connection.execute(text(refuse))

    try:
        with pytest.raises(Exception, match=r"no|refused"):
            list(trail.purge_old(database, before=datetime.now(UTC)))
    finally:
        with database.connection() as connection:
            connection.execute(text(allow))

    assert actions_of(database) == ["user.changed"] * 3


@pytest.mark.parametrize("days", [0, -1, 36_501])
def test_the_trail_is_kept_for_a_day_at_least(days):
    with pytest.raises(ConfigError, match="AUDIT_DAYS"):
        AppConfig(audit_days=days)


def test_each_age_of_a_table_is_a_setting():
    named = {rule.days_setting for rule in PURGES.values() if rule.days_setting}

    assert named == {"audit_days"}
    assert all(isinstance(getattr(AppConfig(), each), int) for each in named)
