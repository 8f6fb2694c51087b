"""admin migrate --to: forth and back to a revision."""

from __future__ import annotations

import json
from contextlib import closing

import pytest
from click.testing import CliRunner
from sqlalchemy import inspect, text

from admin import AdminCommands, cli
from chassis.storage import migrations
from config import AppConfig

ALL = [*migrations.revisions()]


@pytest.fixture
def commands(empty_database_url):
    with closing(AdminCommands(AppConfig(database_url=empty_database_url, redis_url=""))) as opened:
        yield opened


@pytest.fixture
def run(commands):
    """Call that runs a command on a database that was empty."""
    return lambda *arguments: CliRunner().invoke(cli, ["migrate", *arguments], obj=commands)


def tables(commands):
    with commands.database.connection() as connection:
        return set(inspect(connection).get_table_names())


def test_a_database_is_migrated_as_far_as_a_revision_and_no_further(run, commands):
    result = run("--to", "0002")

    assert (result.exit_code, result.output) == (0, "applied 0001\napplied 0002\n")
    assert migrations.current(commands.database) == "0002"
    assert "refresh_tokens" in tables(commands)
    assert "outbox_messages" not in tables(commands)


def test_going_back_takes_a_word_and_reverts_the_newest_first(run, commands):
    run()

    refused = run("--to", "0002")
    between = migrations.current(commands.database)
    result = run("--to", "0002", "--yes", "--json")

    newer = ALL[2:][::-1]
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert refused.stderr.startswith(
        f"Error: This reverts {', '.join(newer)}, with what they store"
    )
    assert between == ALL[-1]
    assert json.loads(result.stdout) == {"applied": [], "reverted": newer}
    assert "outbox_messages" not in tables(commands)
    assert run().stdout == "".join(f"applied {each}\n" for each in ALL[2:])


@pytest.mark.parametrize("option", ["--plan", "--check"])
def test_a_way_is_shown_and_not_gone(run, commands, option):
    run()

    result = run("--to", ALL[-2], option)

    assert result.stdout == f"to be reverted {ALL[-1]}\n"
    assert result.exit_code == (1 if option == "--check" else 0)
    assert migrations.current(commands.database) == ALL[-1]


def test_where_the_database_is_already_nothing_is_done(run):
    run("--to", "0003")

    assert run("--to", "0003").output == "up to date\n"


def test_a_revision_that_does_not_exist_is_refused_with_those_that_do(run, commands):
    result = run("--to", "base", "--yes")

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"Error: There is no revision base; there are {', '.join(ALL)}\n"
    assert tables(commands) == set()


def test_a_revision_of_a_newer_release_is_left_to_that_release(run, commands):
    run()
    with commands.database.connection() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))

    result = run("--to", "0002", "--yes")

    assert result.exit_code == 1
    assert "revision 9999, which this release does not know" in result.stderr
    assert "outbox_messages" in tables(commands)
