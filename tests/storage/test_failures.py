from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest
from sqlalchemy import bindparam, delete, exc, insert, text
from sqlalchemy.exc import DBAPIError

from chassis.errors import Unavailable
from chassis.storage.database import DatabaseManager
from chassis.storage.failures import ReadOnly, SchemaBehind, as_outage, sqlstate
from chassis.storage.idempotency import keys
from chassis.storage.prepared import Prepared

OUTAGES = [
    *("08006", "25P03", "26000", "28000", "40001", "40P01", "53100", "53200", "53300", "55P03"),
    *("3F000", "42501"),
    *("57014", "57P01", "57P02", "57P03", "57P05", "58000", "58030", "XX000", "XX001"),
]
DEFECTS = ["0A000", "22012", "25P02", "42601", "54001", "P0001"]
# A session that is told to be like one that began at a standby.
FORGETTING_TO_WRITE = {
    "sqlite": "PRAGMA query_only=ON",
    "postgresql": "SET default_transaction_read_only = on",
}


def fail_with(database, code):
    """Let PostgreSQL fail with a code."""
    with database.connection() as connection:
        connection.execute(
            text(f"DO $$ BEGIN RAISE EXCEPTION 'as told' USING ERRCODE = '{code}'; END $$")
        )


def session(database):
    with database.connection() as connection:
        return connection.scalar(text("SELECT pg_backend_pid()"))


def write(database, use="connection"):
    row = {"id": "1", "request_hash": "", "answer": "", "created_at": text("CURRENT_TIMESTAMP")}
    with getattr(database, use)() as connection:
        connection.execute(text("DELETE FROM idempotency_keys"))
        connection.execute(insert(keys).values(row))


@pytest.mark.parametrize("code", OUTAGES)
def test_an_outage_is_told_by_its_code_whatever_class_the_driver_makes_of_it(postgresql_url, code):
    with closing(DatabaseManager(postgresql_url).initialize()) as database:
        with pytest.raises(Unavailable) as caught:
            fail_with(database, code)

        assert caught.value.__cause__ is not None
        database.ping()


@pytest.mark.parametrize("code", DEFECTS)
def test_a_failure_that_trying_again_does_not_mend_is_no_outage(postgresql_url, code):
    with closing(DatabaseManager(postgresql_url).initialize()) as database:
        with pytest.raises(DBAPIError) as caught:
            fail_with(database, code)

        assert sqlstate(caught.value) == code


@pytest.mark.parametrize("error", [psycopg2.DatabaseError, psycopg2.OperationalError])
def test_a_failure_of_the_client_library_has_no_code_and_is_an_outage(error):
    lost = error("server closed the connection unexpectedly")

    assert as_outage(exc.DBAPIError("SELECT 1", {}, lost)) is not None


def test_a_misuse_of_the_driver_has_no_code_and_is_no_outage():
    misuse = psycopg2.ProgrammingError("can't adapt type 'object'")

    assert as_outage(exc.ProgrammingError("SELECT 1", {}, misuse)) is None


@pytest.mark.parametrize("code", ["58030", "XX001", "26000"])
def test_a_session_that_may_be_broken_is_not_used_again(postgresql_url, code):
    with closing(DatabaseManager(postgresql_url, pool_size=1).initialize()) as database:
        before = session(database)
        with pytest.raises(Unavailable):
            fail_with(database, code)

        assert session(database) != before


@pytest.mark.parametrize("code", ["40001", "53200", "22012"])
def test_a_session_that_nothing_is_wrong_with_stays(postgresql_url, code):
    with closing(DatabaseManager(postgresql_url, pool_size=1).initialize()) as database:
        before = session(database)
        with pytest.raises((Unavailable, DBAPIError)):
            fail_with(database, code)

        assert session(database) == before


@pytest.mark.parametrize("use", ["connection", "transaction", "get_session"])
def test_one_session_that_must_not_write_takes_all_like_it_along(database, use):
    forget = text(FORGETTING_TO_WRITE["sqlite" if database.is_sqlite else "postgresql"])
    with database.connection() as first, database.connection() as second:
        first.execute(forget)
        second.execute(forget)

    with pytest.raises(ReadOnly):
        write(database, use)

    for _ in range(3):
        write(database, use)


def test_a_session_that_began_read_only_serves_once(empty_postgresql_url):
    with closing(DatabaseManager(empty_postgresql_url).initialize()) as database:
        with database.connection() as connection:
            name = connection.scalar(text("SELECT current_database()"))
            connection.execute(
                text(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
            )
        database.engine.pool.dispose()
        first, second = session(database), session(database)
        with pytest.raises(ReadOnly):
            database.require_writable()
        with database.connection() as connection:
            connection.execute(text("SET default_transaction_read_only = off"))
            connection.execute(text(f"ALTER DATABASE {name} RESET ALL"))

        database.require_writable()

        assert first != second
        assert session(database) == session(database)


@pytest.mark.parametrize("statement", ["SELECT * FROM absent", "SELECT absent FROM absent_too"])
def test_a_table_or_column_that_is_missing_means_that_the_schema_is_behind(database, statement):
    with pytest.raises(SchemaBehind), database.connection() as connection:
        connection.execute(text(statement))


def test_a_column_that_is_missing_means_that_the_schema_is_behind(database):
    with pytest.raises(SchemaBehind), database.connection() as connection:
        connection.execute(text("SELECT absent FROM idempotency_keys"))


def test_a_statement_that_nobody_can_read_is_a_defect(database):
    with pytest.raises(DBAPIError), database.connection() as connection:
        connection.execute(text("SELECTED 1"))


def test_a_full_disk_under_sqlite_is_an_outage(sqlite_url):
    with closing(DatabaseManager(sqlite_url).initialize()) as database:
        with database.connection() as connection:
            connection.exec_driver_sql("PRAGMA max_page_count = 1")  # as many as there are

        with pytest.raises(Unavailable), database.transaction() as connection:
            connection.exec_driver_sql("CREATE TABLE large AS SELECT zeroblob(1000000)")

        write(database)


def test_an_sqlite_file_that_another_holds_is_an_outage(sqlite_url):
    file = sqlite_url.removeprefix("sqlite:///")
    with (
        closing(DatabaseManager(sqlite_url).initialize()) as database,
        closing(sqlite3.connect(file, isolation_level=None)) as other,
    ):
        other.execute("BEGIN IMMEDIATE")
        with database.connection() as connection:
            connection.exec_driver_sql("PRAGMA busy_timeout = 0")

        with pytest.raises(Unavailable), database.connection() as connection:
            connection.exec_driver_sql("DELETE FROM idempotency_keys")


def test_a_file_that_is_no_sqlite_database_is_an_outage_until_it_is_one(tmp_path, sqlite_url):
    good = Path(sqlite_url.removeprefix("sqlite:///"))
    broken = tmp_path / "broken.db"
    broken.write_bytes(b"no database" * 1000)
    with closing(DatabaseManager(f"sqlite:///{broken}").initialize()) as database:
        with pytest.raises(Unavailable):
            database.ping()
        broken.write_bytes(good.read_bytes())

        write(database)


def test_a_prepared_statement_that_must_not_write_takes_all_sessions_like_it_along(database):
    remove = Prepared(delete(keys).where(keys.c.id == bindparam("key_id")))
    forget = text(FORGETTING_TO_WRITE["sqlite" if database.is_sqlite else "postgresql"])
    with database.connection() as first, database.connection() as second:
        first.execute(forget)
        second.execute(forget)

    with pytest.raises(ReadOnly), database.prepared() as connection:
        remove.run(connection, {"key_id": "1"})

    for _ in range(3):
        write(database)
