from __future__ import annotations

import json
import re
import shutil
import sys
import textwrap
import time
from datetime import timedelta

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

from chassis.errors import Unavailable
from chassis.storage import migrations
from chassis.storage.columns import Base
from chassis.storage.database import DatabaseManager
from chassis.storage.failures import sqlstate
from chassis.storage.idempotency import LOCK_NOT_AVAILABLE
from tests.support import processes
from tests.support.factories import make_user
from tests.support.processes import ROOT
from userservice.users import service

ALEMBIC = (sys.executable, "-m", "alembic")


def scripts():
    return ScriptDirectory.from_config(migrations.alembic_config())


def tables(database):
    with database.connection() as connection:
        return set(inspect(connection).get_table_names())


def downgrade(database, revision):
    with migrations.migrating(database) as connection:
        command.downgrade(migrations.alembic_config(connection), revision)


def pretend(database, revision):
    with database.connection() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :r"), {"r": revision})


def test_there_is_one_head_and_it_is_the_one_that_alembic_sees():
    assert scripts().get_heads() == [migrations.head()]


def test_the_revisions_are_those_that_alembic_sees():
    found = {each.revision: each.down_revision for each in scripts().walk_revisions()}

    assert migrations.revisions() == found


def test_the_models_are_what_the_migrations_make(empty_database):
    migrations.upgrade(empty_database)

    with empty_database.connection() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        differences = compare_metadata(context, Base.metadata)

    assert differences == []


def test_a_difference_between_models_and_migrations_would_be_seen(empty_database):
    migrations.upgrade(empty_database)

    with empty_database.connection() as connection:
        connection.execute(text("ALTER TABLE users ADD COLUMN extra INTEGER"))
        connection.execute(text("DROP INDEX uq_users_email_key"))
        context = MigrationContext.configure(connection)
        differences = compare_metadata(context, Base.metadata)

    assert {each[0] for each in differences} == {"remove_column", "add_index"}


def test_every_migration_can_be_undone_and_done_again(empty_database):
    steps = list(migrations.revisions())
    for _ in range(2):
        applied = migrations.upgrade(empty_database)
        made = tables(empty_database)
        downgrade(empty_database, "base")

        assert applied == steps
        assert made == {"alembic_version", *Base.metadata.tables}
        assert tables(empty_database) == {"alembic_version"}
        assert migrations.current(empty_database) is None


@pytest.mark.parametrize("revision", list(migrations.revisions()))
def test_each_step_can_be_undone_alone(empty_database, revision):
    migrations.upgrade(empty_database)
    before = migrations.revisions()[revision]
    downgrade(empty_database, revision)

    downgrade(empty_database, before or "base")

    assert migrations.current(empty_database) == before
    assert migrations.pending(empty_database)[0] == revision


def test_an_empty_database_is_behind(empty_database):
    assert migrations.current(empty_database) is None
    assert migrations.is_behind(empty_database)
    assert migrations.pending(empty_database) == list(migrations.revisions())


def test_looking_changes_nothing(empty_database):
    migrations.is_behind(empty_database)
    migrations.pending(empty_database)

    assert tables(empty_database) == set()


def test_a_migrated_database_is_not_behind(database):
    assert migrations.current(database) == migrations.head()
    assert not migrations.is_behind(database)
    assert migrations.pending(database) == []


def test_migrating_a_migrated_database_does_nothing_and_keeps_the_data(database):
    user = make_user(database)

    applied = migrations.upgrade(database)

    assert applied == []
    assert service.get_user(database, user.id) == user


def test_a_revision_of_newer_code_is_not_behind_and_is_left_alone(empty_database):
    migrations.upgrade(empty_database)
    pretend(empty_database, "9999")

    applied = migrations.upgrade(empty_database)

    assert applied == []
    assert migrations.pending(empty_database) == []
    assert not migrations.is_behind(empty_database)
    assert migrations.current(empty_database) == "9999"


def test_a_migration_that_fails_leaves_nothing_behind(empty_database):
    with empty_database.connection() as connection:
        connection.execute(text("CREATE TABLE ix_users_deleted (id INTEGER)"))

    with pytest.raises(Exception, match="ix_users_deleted"):
        migrations.upgrade(empty_database)

    assert tables(empty_database) == {"ix_users_deleted"}
    assert migrations.is_behind(empty_database)


def test_a_migration_may_take_longer_than_a_statement(postgresql_url):
    limit = timedelta(milliseconds=50)
    database = DatabaseManager(postgresql_url, statement_timeout=limit).initialize()

    with migrations.migrating(database) as connection:
        connection.execute(text("SELECT pg_sleep(0.1)"))

    database.close()


def lock_users(database):
    """Take the table as a migration does; a test that fails ends by the other limit."""
    with migrations.migrating(database) as connection:
        connection.execute(text("SET statement_timeout = '20s'"))
        connection.execute(text("LOCK TABLE users"))


def test_a_migration_that_waits_for_a_table_gives_up_before_its_readers_do(
    postgresql_url, monkeypatch
):
    monkeypatch.setattr(migrations, "LOCK_TIMEOUT", "50ms")
    database = DatabaseManager(postgresql_url).initialize()

    with database.transaction() as reader:
        reader.execute(text("SELECT count(*) FROM users"))
        with pytest.raises(Unavailable) as refused:
            lock_users(database)

    assert sqlstate(refused.value.__cause__) == LOCK_NOT_AVAILABLE
    database.close()


def test_a_migration_waits_for_no_table_again_when_it_is_back_in_a_transaction(postgresql_url):
    database = DatabaseManager(postgresql_url).initialize()
    limit = text("SHOW lock_timeout")

    with migrations.migrating(database) as connection:
        context = MigrationContext.configure(connection)
        with Operations.context(context), context.begin_transaction():
            before = connection.scalar(limit)
            with migrations.outside_transaction():
                outside = connection.scalar(limit)
            afterwards = connection.scalar(limit)

    assert (before, outside, afterwards) == ("10s", "0", "10s")
    database.close()


def test_the_limits_of_a_migration_hold_for_nobody_else(postgresql_url):
    database = DatabaseManager(postgresql_url, pool_size=1, max_overflow=0).initialize()
    limits = [text("SHOW statement_timeout"), text("SHOW lock_timeout")]
    with migrations.migrating(database) as connection:
        within = [connection.scalar(each) for each in limits]

    with database.connection() as connection:
        afterwards = [connection.scalar(each) for each in limits]

    assert (within, afterwards) == (["0", "10s"], ["5s", "0"])
    database.close()


def test_a_lock_that_another_process_holds_too_long_is_unavailable(empty_postgresql_url):
    database = DatabaseManager(empty_postgresql_url).initialize()
    with database.connection() as other:
        other.execute(text("SELECT pg_advisory_lock(:key)"), {"key": migrations.LOCK})

        begin = time.monotonic()
        with pytest.raises(Unavailable, match="Another process is migrating"):
            migrations.upgrade(database, patience=timedelta(seconds=0.1))
        waited = time.monotonic() - begin
        other.execute(text("SELECT pg_advisory_unlock_all()"))

    assert waited >= 0.1
    assert migrations.upgrade(database) == list(migrations.revisions())
    database.close()


def test_the_lock_is_free_after_a_migration_and_after_one_that_failed(empty_postgresql_url):
    database = DatabaseManager(empty_postgresql_url).initialize()
    with database.connection() as connection:
        connection.execute(text("CREATE TABLE users (id INTEGER)"))
    with pytest.raises(Exception, match="already exists"):
        migrations.upgrade(database)
    with database.connection() as connection:
        connection.execute(text("DROP TABLE users"))

    migrations.upgrade(database)

    with database.connection() as connection:
        held = connection.scalar(
            text(
                "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database"
                " WHERE locktype = 'advisory' AND datname = current_database()"
            )
        )
    assert held == 0
    database.close()


def test_a_migrated_database_is_not_locked_to_find_that_out(postgresql_url):
    database = DatabaseManager(postgresql_url).initialize()
    with database.connection() as other:
        other.execute(text("SELECT pg_advisory_lock(:key)"), {"key": migrations.LOCK})

        applied = migrations.upgrade(database, patience=timedelta(0))

        other.execute(text("SELECT pg_advisory_unlock_all()"))
    assert applied == []
    database.close()


def test_a_database_that_is_away_is_unavailable(tmp_path):
    database = DatabaseManager(f"sqlite:///{tmp_path}/no/such/app.db").initialize()

    for look in (migrations.current, migrations.is_behind, migrations.pending, migrations.upgrade):
        with pytest.raises(Unavailable):
            look(database)


def test_of_three_processes_that_migrate_at_once_one_does_and_none_fails(empty_database_url):
    variables = {"DATABASE_URL": empty_database_url, "REDIS_URL": ""}
    command_line = (*processes.ADMIN, "migrate", "--json")

    started = [processes.start(*command_line, variables=variables) for _ in range(3)]
    results = [processes.finish(each) for each in started]

    assert [(each.returncode, each.stderr) for each in results] == [(0, "")] * 3
    applied = [json.loads(each.stdout)["applied"] for each in results]
    assert sorted(applied) == [[]] * 2 + [list(migrations.revisions())]


@pytest.fixture
def next_release(tmp_path):
    """Folder of a release with one more migration, the one that docs/upgrades.md shows."""
    for package in ("chassis", "userservice", "migrations"):
        shutil.copytree(ROOT / package, tmp_path / package)
    for file in (*ROOT.glob("*.py"), ROOT / "alembic.ini"):
        shutil.copy(file, tmp_path)
    shown = (ROOT / "docs" / "upgrades.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^  ```python\n(.*?)^  ```$", shown, re.MULTILINE | re.DOTALL)
    head = f'from alembic import op\nrevision = "next"\ndown_revision = "{migrations.head()}"\n'
    (tmp_path / "migrations" / "versions" / "next.py").write_text(head + textwrap.dedent(code))
    return tmp_path


def leave_invalid_index(database):
    """Do as a CREATE INDEX CONCURRENTLY that failed."""
    index = "CREATE INDEX ix_users_name ON users (name)"
    broken = "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'ix_users_name'::regclass"
    with database.connection() as connection:
        connection.execute(text(index))
        connection.execute(text(broken))


def test_a_migration_can_make_an_index_concurrently(empty_postgresql_url, next_release):
    database = DatabaseManager(empty_postgresql_url).initialize()
    migrations.upgrade(database)
    leave_invalid_index(database)
    variables = {"DATABASE_URL": empty_postgresql_url, "REDIS_URL": ""}
    command_line = (sys.executable, "app.py", "admin", "migrate", "--json")

    started = [
        processes.start(*command_line, variables=variables, cwd=next_release) for _ in range(3)
    ]
    results = [processes.finish(each) for each in started]

    assert [(each.returncode, each.stderr) for each in results] == [(0, "")] * 3
    applied = [json.loads(each.stdout)["applied"] for each in results]
    assert sorted(applied) == [[], [], ["next"]]
    valid = "SELECT indisvalid FROM pg_index WHERE indexrelid = 'ix_users_name'::regclass"
    with database.connection() as connection:
        assert connection.scalar(text(valid))
    database.close()


def test_alembic_can_do_and_undo_it_by_hand(empty_database_url, next_release):
    variables = {"DATABASE_URL": empty_database_url}

    for step in (("upgrade", "head"), ("downgrade", "base")):
        result = processes.run(*ALEMBIC, *step, variables=variables, cwd=next_release)
        assert result.returncode == 0, result.stderr


def test_alembic_finds_the_configured_database_when_it_is_run_by_hand(empty_database_url):
    variables = {"DATABASE_URL": empty_database_url}

    upgrade = processes.run(*ALEMBIC, "upgrade", "head", variables=variables)
    check = processes.run(*ALEMBIC, "check", variables=variables)

    assert (upgrade.returncode, check.returncode) == (0, 0)
    assert "No new upgrade operations detected" in check.stdout + check.stderr
