from __future__ import annotations

import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, insert, make_url, select, text, update
from sqlalchemy.exc import IntegrityError, StatementError

from bootstrap import open_database
from chassis.errors import Unavailable
from chassis.storage.columns import UtcDateTime
from chassis.storage.database import DatabaseManager, with_driver
from chassis.storage.ids import uuid7, uuid7_batch
from config import AppConfig
from tests.support.factories import make_user
from tests.support.ports import HOST, free_port
from tests.support.processes import finish, start
from tests.support.servers import PostgreSQLServer
from tests.support.tables import existing
from tests.support.waiting import DEADLINE_SECONDS
from userservice import SERVICE_NAME
from userservice.users import service
from userservice.users.models import User

NOW = datetime(2024, 5, 6, 7, 8, 9, 123456, tzinfo=UTC)
SHORT = timedelta(seconds=0.2)

notes = Table(
    "tests_own_notes",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("at", UtcDateTime),
)


class Bug(Exception):
    """Raised by a test in the middle of its work."""


@pytest.fixture
def noted(database):
    """The database, with an empty table of two columns."""
    with existing(notes, database):
        yield database


@pytest.fixture
def limited(database_url):
    """A database that one connection at a time may reach."""
    manager = DatabaseManager(
        database_url, pool_size=1, max_overflow=0, pool_timeout=SHORT
    ).initialize()
    yield manager
    manager.close()


def note(connection, number, at=None):
    connection.execute(insert(notes), {"id": number, "at": at})


def note_and_fail(use, *numbers):
    with use as connection:
        for number in numbers:
            note(connection, number)
        raise Bug


def numbers(database):
    with database.connection() as connection:
        return connection.scalars(select(notes.c.id).order_by(notes.c.id)).all()


def test_a_statement_on_a_connection_stands_at_once(noted):
    with noted.connection() as connection:
        note(connection, 1)

        assert numbers(noted) == [1]


def test_a_statement_on_a_connection_stands_whatever_comes_after_it(noted):
    with pytest.raises(Bug):
        note_and_fail(noted.connection(), 1)

    assert numbers(noted) == [1]


def test_a_transaction_that_ends_well_keeps_everything(noted):
    with noted.transaction() as connection:
        note(connection, 1)
        note(connection, 2)

    assert numbers(noted) == [1, 2]


def test_a_transaction_that_fails_keeps_nothing(noted):
    with pytest.raises(Bug):
        note_and_fail(noted.transaction(), 1, 2)

    assert numbers(noted) == []


def test_a_transaction_whose_last_statement_is_refused_keeps_nothing(noted):
    with pytest.raises(IntegrityError):
        note_and_fail(noted.transaction(), 1, 2, 1)

    assert numbers(noted) == []


def test_nobody_sees_a_transaction_before_its_end(noted):
    with noted.transaction() as connection:
        note(connection, 1)

        assert numbers(noted) == []


def test_a_savepoint_undoes_a_part_of_a_transaction(noted):
    with noted.transaction() as connection:
        note(connection, 1)
        with pytest.raises(IntegrityError), connection.begin_nested():
            note(connection, 1)
        note(connection, 2)

    assert numbers(noted) == [1, 2]


def test_one_pooled_connection_serves_both_kinds_of_use_in_turn(database_url):
    database = DatabaseManager(database_url, pool_size=1, max_overflow=0).initialize()
    with database.connection() as connection:
        notes.create(connection)
        driver = connection.connection.dbapi_connection

    with database.transaction() as connection:
        assert connection.connection.dbapi_connection is driver
        assert is_in_transaction(driver) == database.is_sqlite  # the other begins with a statement
        note(connection, 1)
        assert is_in_transaction(driver)
    with database.connection() as connection:
        assert connection.connection.dbapi_connection is driver
        note(connection, 2)
        assert not is_in_transaction(driver)
    with pytest.raises(Bug):
        note_and_fail(database.transaction(), 3)
    with database.connection() as connection:
        note(connection, 4)
        assert not is_in_transaction(driver)

    assert numbers(database) == [1, 2, 4]
    with database.connection() as connection:
        notes.drop(connection)
    database.close()


def is_in_transaction(driver):
    if hasattr(driver, "in_transaction"):
        return driver.in_transaction
    return driver.info.transaction_status != 0


def test_a_session_keeps_its_objects_and_they_outlive_it(database):
    user = make_user(database)

    with database.get_session() as session:
        loaded = session.get_one(User, user.id)
        loaded.name = "New Name"

    assert loaded.name == "New Name"
    assert service.get_user(database, user.id).name == "New Name"


def test_a_session_that_fails_keeps_nothing(database):
    user = make_user(database, name="Old Name")

    with pytest.raises(Bug):
        rename_and_fail(database, user.id)

    assert service.get_user(database, user.id).name == "Old Name"


def rename_and_fail(database, user_id):
    with database.get_session() as session:
        session.get_one(User, user_id).name = "New Name"
        session.flush()
        raise Bug


def test_a_ping_makes_a_round_trip(database):
    database.ping()

    assert database.engine.pool.checkedin() == 1


def test_nothing_connects_before_the_first_use():
    database = DatabaseManager("postgresql://nobody@nowhere.invalid/none").initialize()

    assert "Connections in pool: 0" in database.engine.pool.status()


def test_a_database_that_was_not_initialized_says_what_to_do():
    database = DatabaseManager("sqlite://")

    with pytest.raises(RuntimeError, match="initialize"), database.connection():
        pass


def test_initializing_twice_changes_nothing(database):
    engine = database.engine

    assert database.initialize().engine is engine


def test_closing_closes_the_connections_and_a_later_use_opens_new_ones(database):
    with database.connection() as connection:
        first = connection.connection.dbapi_connection

    database.close()
    with database.connection() as connection:
        second = connection.connection.dbapi_connection

    assert second is not first


def test_closing_what_was_never_used_is_no_error():
    DatabaseManager("sqlite://").close()


def test_a_memory_database_lives_as_long_as_its_manager():
    database = DatabaseManager("sqlite://").initialize()
    with database.connection() as connection:
        notes.create(connection)

    with database.transaction() as connection:
        note(connection, 1)

    assert numbers(database) == [1]
    database.close()


@pytest.mark.parametrize("first", ["connection", "transaction", "get_session"])
@pytest.mark.parametrize("second", ["connection", "transaction", "get_session"])
def test_all_kinds_of_use_share_one_limit(limited, first, second):
    with getattr(limited, first)() as held:
        held.execute(text("SELECT 1"))

        with pytest.raises(Unavailable), getattr(limited, second)() as refused:
            refused.execute(text("SELECT 1"))


def test_a_pool_that_is_exhausted_is_unavailable_after_its_timeout(limited):
    with limited.connection():
        begin = time.monotonic()
        with pytest.raises(Unavailable):
            limited.ping()
        waited = time.monotonic() - begin

    assert waited >= 0.2
    limited.ping()


def test_a_connection_is_not_lost_to_the_pool_when_its_use_fails(limited):
    for use in (limited.connection, limited.transaction, limited.get_session) * 2:
        with pytest.raises(Bug), use():
            raise Bug

    limited.ping()


def test_many_threads_change_one_row_and_lose_nothing(noted):
    with noted.connection() as connection:
        note(connection, 0)

    def count(_):
        with noted.transaction() as connection:
            before = connection.scalar(select(notes.c.id).with_for_update())
            connection.execute(update(notes).values(id=before + 1))

    with ThreadPoolExecutor(12) as threads:
        list(threads.map(count, range(96)))

    assert numbers(noted) == [96]
    assert noted.engine.pool.checkedout() == 0


@pytest.mark.parametrize(
    "moment",
    [
        NOW,
        NOW.astimezone(timezone(timedelta(hours=5, minutes=30))),
        datetime(1970, 1, 1, tzinfo=UTC),
        datetime(2999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    ],
)
def test_a_point_in_time_comes_back_aware_and_in_utc(noted, moment):
    with noted.connection() as connection:
        note(connection, 1, moment)
        stored = connection.scalar(select(notes.c.at))

    assert stored == moment
    assert stored.tzinfo is UTC


def test_no_point_in_time_comes_back_as_none(noted):
    with noted.connection() as connection:
        note(connection, 1, None)

        assert connection.scalar(select(notes.c.at)) is None


def test_points_in_time_are_compared_as_such_whatever_their_zone(noted):
    east = timezone(timedelta(hours=9))
    with noted.connection() as connection:
        note(connection, 1, NOW)
        earlier = (NOW - timedelta(minutes=1)).astimezone(east)
        found = connection.scalars(select(notes.c.id).where(notes.c.at > earlier)).all()

    assert found == [1]


def test_a_naive_point_in_time_is_refused(noted):
    with (
        noted.connection() as connection,
        pytest.raises(StatementError, match="naive datetime"),
    ):
        note(connection, 1, NOW.replace(tzinfo=None))


def test_an_error_of_the_database_does_not_repeat_the_values(database):
    first, second = make_user(database), make_user(database, email="ada@example.com")

    with pytest.raises(IntegrityError) as caught, database.connection() as connection:
        connection.execute(update(User).values(id=first.id).where(User.email == second.email))

    assert "ada@" not in str(caught.value)


def test_an_id_is_a_uuid_of_version_7_that_holds_the_time():
    before = time.time_ns() // 1_000_000

    made = uuid7()

    after = time.time_ns() // 1_000_000
    assert isinstance(made, UUID)
    assert (made.version, made.variant) == (7, "specified in RFC 4122")
    assert before <= made.int >> 80 <= after


def test_ids_follow_the_order_of_time(monkeypatch):
    times = [NOW + timedelta(milliseconds=step) for step in (0, 1, 2, 1000, 10**9)]
    made = []
    for moment in times:
        nanoseconds = round(moment.timestamp() * 1000) * 1_000_000
        monkeypatch.setattr(time, "time_ns", lambda value=nanoseconds: value)
        made.append(uuid7())

    assert made == sorted(made)
    assert [str(each) for each in made] == sorted(str(each) for each in made)


def test_ids_of_the_same_millisecond_differ(monkeypatch):
    monkeypatch.setattr(time, "time_ns", lambda: 1_700_000_000_000_000_000)

    assert len({uuid7() for _ in range(1000)}) == 1000


def test_ids_made_at_once_are_like_others_and_in_order():
    before = uuid7()

    made = uuid7_batch(1000)

    ids = [UUID(each) for each in made]
    assert {(each.version, each.variant) for each in ids} == {(before.version, before.variant)}
    assert len(set(ids)) == 1000
    assert ids == sorted(ids)
    assert 0 <= (ids[0].int >> 80) - (before.int >> 80) < 60_000  # milliseconds


@pytest.mark.parametrize(
    ("pragma", "expected"),
    [("journal_mode", "wal"), ("foreign_keys", 1), ("busy_timeout", 5000), ("synchronous", 1)],
)
def test_an_sqlite_connection_is_configured(sqlite_url, pragma, expected):
    database = DatabaseManager(sqlite_url).initialize()

    with database.connection() as connection:
        found = connection.scalar(text(f"PRAGMA {pragma}"))

    assert found == expected
    database.close()


def test_an_sqlite_writer_waits_for_another_and_does_not_fail(sqlite_url):
    database = DatabaseManager(sqlite_url).initialize()
    with database.connection() as connection:
        notes.create(connection)
    with ThreadPoolExecutor(1) as thread, database.transaction() as connection:
        note(connection, 1)

        other = thread.submit(read_then_write, database)
        with suppress(TimeoutError):
            other.result(timeout=0.1)
        note(connection, 2)
        assert not other.done()
        connection.commit()
        other.result(timeout=DEADLINE_SECONDS)

    assert numbers(database) == [1, 2, 3]
    database.close()


def read_then_write(database):
    with database.transaction() as connection:
        assert connection.scalars(select(notes.c.id)).all() == [1, 2]
        note(connection, 3)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("statement_timeout", "1234ms"),
        ("idle_in_transaction_session_timeout", "1min"),
        ("application_name", "a-service"),
    ],
)
def test_a_postgresql_connection_is_configured(postgresql_url, name, expected):
    timeout = timedelta(milliseconds=1234)
    database = DatabaseManager(
        postgresql_url, statement_timeout=timeout, application_name="a-service"
    ).initialize()

    with database.connection() as connection:
        alone = connection.scalar(text(f"SHOW {name}"))
    with database.transaction() as connection:
        inside = connection.scalar(text(f"SHOW {name}"))

    assert (alone, inside) == (expected, expected)
    database.close()


def test_a_postgresql_connection_is_in_utc_wherever_the_server_is(empty_postgresql_url):
    database = DatabaseManager(empty_postgresql_url).initialize()
    with database.connection() as connection:
        name = connection.scalar(text("SELECT current_database()"))
        connection.execute(text(f"ALTER DATABASE {name} SET timezone TO 'Asia/Tokyo'"))
    database.close()

    with database.connection() as connection:
        zone = connection.scalar(text("SHOW timezone"))

    assert zone == "UTC"
    database.close()


@pytest.mark.parametrize("use", ["connection", "transaction", "get_session"])
def test_a_statement_that_takes_too_long_is_unavailable_and_its_connection_stays(
    postgresql_url, use
):
    database = DatabaseManager(
        postgresql_url, statement_timeout=timedelta(milliseconds=50), pool_size=1, max_overflow=0
    ).initialize()

    with pytest.raises(Unavailable), getattr(database, use)() as connection:
        connection.execute(text("SELECT pg_sleep(3600)"))

    database.ping()
    database.close()


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg2"])
def test_every_spelling_of_a_postgresql_url_works(postgresql_url, scheme):
    url = f"{scheme}://{postgresql_url.partition('://')[2]}"
    database = DatabaseManager(url).initialize()

    database.ping()

    assert not database.is_sqlite
    database.close()


@pytest.mark.parametrize(
    ("query", "setting", "value"),
    [
        ("options=-csearch_path%3Dtenant", "search_path", "tenant"),
        ("options=-csearch_path%3Dtenant", "TimeZone", "UTC"),
        ("options=-c+statement_timeout%3D7s", "statement_timeout", "7s"),
        ("options=-cwork_mem%3D5MB&options=-csearch_path%3Dtenant", "work_mem", "5MB"),
        ("application_name=billing", "application_name", "billing"),
        ("keepalives_idle=7", "application_name", "cloudnative-user-api"),
    ],
)
def test_the_url_says_more_than_we_do_and_ours_is_added(postgresql_url, query, setting, value):
    config = AppConfig(database_url=f"{postgresql_url}?{query}")
    with closing(open_database(config)) as database, database.connection() as connection:
        assert connection.scalar(text(f"SHOW {setting}")) == value


def test_keepalives_in_the_url_stay(postgresql_url):
    config = AppConfig(database_url=f"{postgresql_url}?keepalives_idle=7")
    with closing(open_database(config)) as database, database.connection() as connection:
        driver = connection.connection.dbapi_connection
        parameters = driver.get_dsn_parameters()  # type: ignore[union-attr]  # it is open

    assert (parameters["keepalives_idle"], parameters["keepalives_count"]) == ("7", "3")


def test_a_password_with_escaped_characters_survives_the_parsing():
    assert with_driver("postgres://app:a%40b%2Fc@db/app").password == "a@b/c"


def test_a_database_at_a_dead_port_is_unavailable():
    database = DatabaseManager(f"postgresql://app@{HOST}:{free_port()}/app").initialize()

    with pytest.raises(Unavailable) as caught:
        database.ping()

    assert caught.value.__cause__ is not None
    database.close()


@pytest.mark.parametrize("seconds", [0.1, 1])
def test_a_database_that_never_answers_is_unavailable_after_the_connect_timeout(seconds):
    with socket.create_server((HOST, 0)) as silent:
        database = DatabaseManager(
            f"postgresql://app@{HOST}:{silent.getsockname()[1]}/app",
            connect_timeout=timedelta(seconds=seconds),
        ).initialize()

        with pytest.raises(Unavailable):
            database.ping()
        database.close()


def test_an_sqlite_file_that_cannot_be_opened_is_unavailable(tmp_path):
    database = DatabaseManager(f"sqlite:///{tmp_path}/no/such/folder/app.db").initialize()

    with pytest.raises(Unavailable):
        database.ping()


def test_connections_that_a_restart_of_postgresql_broke_are_replaced_without_an_error():
    with PostgreSQLServer() as server:
        database = DatabaseManager(server.url).initialize()
        for immediate in (False, True):
            before = open_connections(database, 4)
            server.restart(immediate=immediate)

            after = open_connections(database, 4)

            assert not set(before) & set(after)
        with database.transaction() as connection:
            assert connection.scalar(text("SELECT 1")) == 1
        database.close()


def open_connections(database, number):
    """Use several connections at once and return the processes that serve them."""
    if number == 0:
        return []
    with database.connection() as connection:
        pid = connection.scalar(text("SELECT pg_backend_pid()"))
        return [pid, *open_connections(database, number - 1)]


def test_a_connection_that_breaks_in_use_is_unavailable_and_the_next_one_works(postgresql_url):
    database = DatabaseManager(postgresql_url, pool_size=1, max_overflow=0).initialize()

    for use in (database.connection, database.transaction, database.get_session):
        with pytest.raises(Unavailable), use() as connection:
            connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
        database.ping()

    database.close()


@contextmanager
def statements_of(url):
    """Yield a URL that leads to the same server, and the statements sent through it."""
    target = make_url(url)
    sent: list[str] = []
    with socket.create_server((HOST, 0)) as listener:
        in_background(forward_all, listener, (target.host, target.port), sent)
        through = target.set(port=listener.getsockname()[1])
        yield through.render_as_string(hide_password=False), sent
        listener.shutdown(socket.SHUT_RDWR)


def forward_all(listener, target, sent):
    with suppress(OSError):  # the listener was closed
        while True:
            client, _ = listener.accept()
            server = socket.create_connection(target)
            in_background(forward, client, server, sent.append)
            in_background(forward, server, client, lambda _message: None)


def in_background(function, *arguments):
    threading.Thread(target=function, args=arguments, daemon=True).start()


def forward(source, sink, report):
    """Copy bytes until one side ends; report each statement's text (protocol message Q)."""
    with source:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if data[:1] == b"Q":
                    report(data[5:-1].decode())
                sink.sendall(data)
        for each in (source, sink):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


def test_a_statement_on_a_connection_costs_one_round_trip(postgresql_url):
    with statements_of(postgresql_url) as (url, sent):
        database = DatabaseManager(url).initialize()
        database.ping()
        sent.clear()

        for _ in range(3):
            database.ping()

        assert sent == ["SELECT 1"] * 3
        database.close()


def test_a_transaction_adds_its_begin_and_its_end_and_nothing_else(postgresql_url):
    with statements_of(postgresql_url) as (url, sent):
        database = DatabaseManager(url).initialize()
        database.ping()
        sent.clear()

        with database.transaction() as connection:
            connection.execute(text("SELECT 1"))
            connection.execute(text("SELECT 2"))
        database.ping()

        assert sent == ["BEGIN", "SELECT 1", "SELECT 2", "COMMIT", "SELECT 1"]
        database.close()


def test_a_snapshot_says_in_its_transaction_what_it_is_and_the_next_user_finds_nothing_of_it(
    postgresql_url,
):
    with statements_of(postgresql_url) as (url, sent):
        database = DatabaseManager(url, pool_size=1, max_overflow=0).initialize()
        database.ping()
        sent.clear()

        with database.snapshot() as connection:
            read_only = connection.scalar(text("SELECT current_setting('transaction_read_only')"))
        with database.transaction() as connection:
            level = connection.scalar(text("SHOW transaction_isolation"))

        assert (read_only, level) == ("on", "read committed")
        assert [each for each in sent if each.startswith("SET")] == [
            "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"
        ]
        database.close()


@pytest.fixture
def later(monkeypatch):
    """Call that lets longer pass than any statement may take, for connections in use."""
    now = [1000.0]
    monkeypatch.setattr(
        "chassis.storage.stall_watch.time", SimpleNamespace(monotonic=lambda: now[0])
    )

    def advance():
        now[0] += 3600

    return advance


def test_reading_a_snapshot_may_take_longer_than_any_statement(postgresql_url, later):
    database = DatabaseManager(postgresql_url).initialize()

    with database.snapshot() as connection:
        later()
        database.cut_stalled()
        number = connection.scalar(text("SELECT 1"))

    assert number == 1
    database.close()


def test_a_connection_that_waited_in_the_pool_for_long_is_not_cut(postgresql_url, later):
    database = DatabaseManager(postgresql_url, pool_size=1, max_overflow=0).initialize()
    (before,) = open_connections(database, 1)

    later()
    database.cut_stalled()

    assert open_connections(database, 1) == [before]
    database.close()


def test_a_server_that_has_vanished_is_noticed_within_seconds(postgresql_url):
    database = DatabaseManager(postgresql_url).initialize()
    expected = {
        "keepalives_idle": "30",
        "keepalives_interval": "5",
        "keepalives_count": "3",
        "tcp_user_timeout": "10000",
    }

    with database.connection() as connection:
        driver: Any = connection.connection.dbapi_connection
        options = driver.get_dsn_parameters()

    assert {name: options.get(name) for name in expected} == expected
    database.close()


def test_the_limit_of_a_pool_is_the_number_of_connections_that_it_gives_out(postgresql_url):
    database = DatabaseManager(
        postgresql_url, pool_size=1, max_overflow=2, pool_timeout=SHORT
    ).initialize()
    limit = database.pool_usage()["limit"]

    given_out = open_connections(database, limit)
    with pytest.raises(Unavailable):
        open_connections(database, limit + 1)

    assert len(given_out) == limit == 3
    database.close()


def test_a_new_connection_costs_no_statements_but_those_of_sqlalchemy(postgresql_url):
    with statements_of(postgresql_url) as (url, sent):
        database = DatabaseManager(url).initialize()
        open_connections(database, 1)
        sent.clear()

        open_connections(database, 3)

        assert sent == ["SELECT pg_backend_pid()"] * 3
        database.close()


def test_every_process_names_itself_to_the_database(postgresql_url):
    database = open_database(AppConfig(database_url=postgresql_url))

    with database.connection() as connection:
        assert connection.scalar(text("SHOW application_name")) == SERVICE_NAME
    database.close()


def test_processes_that_open_a_new_file_at_once_all_can(tmp_path):
    code = (
        "import sys; from sqlalchemy import text\n"
        "from chassis.storage.database import DatabaseManager\n"
        "managers = [DatabaseManager(f'sqlite:///{path}').initialize() for path in sys.argv[1:]]\n"
        "input(print('ready', flush=True) or '')\n"
        "for manager in managers:\n"
        "    with manager.transaction() as connection:\n"
        "        connection.execute(text('CREATE TABLE IF NOT EXISTS things (id INTEGER)'))\n"
    )
    files = [str(tmp_path / f"{number}.db") for number in range(60)]

    running = [start(sys.executable, "-c", code, *files) for _ in range(4)]
    assert [each.stdout.readline() for each in running] == ["ready\n"] * 4
    for each in running:
        each.stdin.write("\n")
        each.stdin.flush()
    results = [finish(each) for each in running]

    assert [(each.returncode, each.stderr) for each in results] == [(0, "")] * 4
