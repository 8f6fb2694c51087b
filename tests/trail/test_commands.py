"""admin audit list and export."""

from __future__ import annotations

import json
import tracemalloc
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from click.testing import CliRunner

from admin import AdminCommands, cli
from chassis.cli.options import SOME_ID
from tests.support.deeds import deeds, store
from userservice.trail import service
from userservice.trail.schemas import EventFilter


@pytest.fixture
def run(config, services):
    """Call that runs a command about the trail on the test's database, in this process."""
    commands = AdminCommands(config, services)
    return lambda *arguments: CliRunner().invoke(cli, ["audit", *arguments], obj=commands)


def ids(result):
    assert result.exit_code == 0, result.output
    return [UUID(each["id"]) for each in json.loads(result.stdout)]


def test_the_newest_are_listed_first(run, database):
    stored = store(database, 3)

    assert ids(run("list", "--json")) == stored[::-1]
    assert ids(run("list", "--json", "--limit", "2")) == stored[:0:-1]


def test_people_read_a_line_for_each(run, database):
    (stored,) = store(database, actor_id=SOME_ID, target="t", changed=["name", "roles"])
    store(database, actor_id=None, actor_kind="operator", target=None, changed=[])
    (row, _) = deeds(database)
    assert row.id == stored

    newest, oldest = run("list").stdout.splitlines()

    at = row.at.isoformat(timespec="seconds")
    assert oldest == f"{at}  user.changed  t  name,roles  by user {SOME_ID}  done"
    assert newest.endswith("user.changed  -  -  by operator  done")


@pytest.mark.parametrize(
    "filters",
    [
        ("--actor", SOME_ID.upper()),
        ("--target", SOME_ID),
        ("--action", "user.erased"),
        ("--after", (datetime.now(UTC) - timedelta(minutes=30)).isoformat()),
    ],
    ids=lambda each: each[0],
)
def test_filters_leave_others_out(run, database, filters, tmp_path):
    store(database, 2, age=timedelta(hours=1))
    wanted = store(database, actor_id=SOME_ID, target=SOME_ID, action="user.erased")
    file = tmp_path / "trail"

    listed, exported = run("list", "--json", *filters), run("export", *filters, str(file))

    assert ids(listed) == wanted
    assert exported.exit_code == 0, exported.output
    assert json.loads(file.read_text())["id"] == str(wanted[0])


@pytest.mark.parametrize(
    ("filters", "status"),
    [
        (("--actor", "ada@example.com"), 1),
        (("--target", "\x00"), 1),
        (("--after", "yesterday"), 1),
        (("--action", "user.admired"), 2),
    ],
    ids=str,
)
def test_a_filter_that_is_none_is_refused(run, filters, status):
    for command in (("list",), ("export", "-")):
        result = run(*command, *filters)

        assert (result.exit_code, result.stdout) == (status, "")
        assert "Error: " in result.stderr


def test_an_export_has_a_line_for_each_the_oldest_first(run, database, tmp_path):
    stored = store(database, 3)

    result = run("export", "-")

    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [each["id"] for each in lines] == [str(each) for each in stored]
    assert lines == json.loads(run("list", "--json").stdout)[::-1]
    assert run("export", str(tmp_path / "trail")).output == ""
    assert (tmp_path / "trail").read_text() == result.stdout
    assert (tmp_path / "trail").stat().st_mode & 0o777 == 0o600


def test_a_long_export_needs_no_more_memory(database):
    """20,000 rows are eight megabytes of lines."""
    store(database, 20_000)
    tracemalloc.start()

    pieces = service.export_events(database, EventFilter())
    size = sum(map(len, pieces))

    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size > 6_000_000
    assert peak < 6_000_000
