"""The list of resources: nothing is missing from it, nothing is in it twice."""

from __future__ import annotations

import ast
import sys
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from admin import AdminCommands, cli
from chassis.resource import merge
from chassis.storage.columns import Base
from chassis.storage.tables import Unpurged, purge_expired
from config import AppConfig
from tests.support import processes
from tests.support.processes import ROOT
from userservice.resources import (
    ABANDONED_HANDLERS,
    BLUEPRINTS,
    EVENT_HANDLERS,
    PURGES,
    RESOURCES,
    TABLES,
)

# Tables in the order in which a cleanup prints them.
PRINTED = ["idempotency_keys", "refresh_tokens", "outbox_messages", "jobs", "users"]


def test_every_table_is_declared_once():
    declared = [table for each in RESOURCES for table in each.tables]

    assert sorted(declared) == sorted(Base.metadata.tables)


def test_a_table_that_is_not_purged_says_why():
    reasons = {table: each.reason for table, each in TABLES.items() if isinstance(each, Unpurged)}

    assert set(TABLES) - set(PURGES) == set(reasons)
    assert all(reason.endswith(".") and len(reason.split()) > 4 for reason in reasons.values())


def test_rows_of_a_table_that_go_with_another_are_deleted_by_the_database():
    cascading = {
        table for table, each in TABLES.items() if "CASCADE" in getattr(each, "reason", "")
    }

    rules = [
        key.ondelete for table in cascading for key in Base.metadata.tables[table].foreign_keys
    ]

    assert len(rules) > 1
    assert set(rules) == {"CASCADE"}


def test_a_table_is_purged_before_those_that_its_rows_refer_to():
    order = list(PURGES)

    early = [
        (table, key.column.table.name)
        for table in order
        for key in Base.metadata.tables[table].foreign_keys
        if order.index(table) > order.index(key.column.table.name)
    ]

    assert [table for table in order if table in PRINTED] == PRINTED
    assert early == []


@pytest.mark.parametrize("table", PURGES)
def test_a_purge_of_an_empty_table_counts_and_removes_nothing(database, table):
    now = datetime.now(UTC)

    assert PURGES[table].count(database, before=now) == 0
    assert sum(PURGES[table].run(database, before=now)) == 0


def test_rows_that_carry_their_own_end_are_purged_whatever_the_age(database):
    long_ago = datetime(1, 1, 1, tzinfo=UTC)

    purge = purge_expired(lambda _: 3, lambda _: iter([2, 1]))

    assert purge.count(database, before=long_ago) == 3
    assert list(purge.run(database, before=long_ago)) == [2, 1]


def test_topics_that_are_given_up_are_topics_that_are_handled():
    assert ABANDONED_HANDLERS.keys() <= EVENT_HANDLERS.keys()


def test_a_topic_or_table_that_two_resources_declare_is_refused():
    with pytest.raises(ValueError, match="Declared twice: a, b"):
        merge([{"a": 1, "b": 2}, {"c": 3}, {"b": 4, "a": 5}])
    assert merge([{"a": 1}, {}, {"b": 2}]) == {"a": 1, "b": 2}


def test_the_parts_of_a_resource_reach_the_application_and_the_command_line(app):
    commands = {command.name for each in RESOURCES for command in each.commands()}

    assert {each.name for each in BLUEPRINTS} == set(app.blueprints)
    assert commands >= {"import", "export"}
    assert commands <= cli.commands.keys()


def test_the_sizes_of_all_tables_are_shown(config, services, database):
    result = CliRunner().invoke(
        cli, ["export-metrics", "-", "--format", "json"], obj=AdminCommands(config, services)
    )

    for table in {"all"} if database.is_sqlite else TABLES:
        assert f'"{table}": ' in result.stdout.partition("table_bytes")[2]


@pytest.mark.parametrize("module", ["app", "workers"])
def test_a_process_that_stays_loads_no_command_line(module):
    code = (
        f"import {module}, sys; from userservice.resources import RESOURCES; "
        "ours = [name for name in sys.modules if name.startswith(('chassis.', 'userservice.'))]; "
        "print([name for name in ours if 'cli' in name.split('.') or 'commands' in name])"
    )

    result = processes.run(sys.executable, "-c", code)

    assert (result.stdout, result.stderr) == ("[]\n", "")


def test_every_setting_is_read():
    """A resource that was removed leaves its settings behind, which nothing else names."""
    folders = (ROOT / "chassis", ROOT / "userservice")
    files = [*ROOT.glob("*.py"), *(file for folder in folders for file in folder.rglob("*.py"))]
    read = {
        node.attr
        for file in files
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
    }
    of_purges = {each.days_setting for each in PURGES.values()}

    assert {each.name for each in fields(AppConfig)} - read - of_purges == set()


@pytest.mark.parametrize("module", ["workers", "admin"])
def test_a_process_that_signs_no_tokens_does_not_load_their_library(module):
    code = f"import {module}, sys; print(sys.modules.keys() & {{'jwt', 'cryptography'}})"

    result = processes.run(sys.executable, "-c", code)

    assert (result.stdout, result.stderr) == ("set()\n", "")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_library_of_tokens_is_loaded_before_the_fork(serve):
    service = serve()

    assert "cryptography" in Path(f"/proc/{service.process.pid}/maps").read_text()
