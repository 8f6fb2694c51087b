"""Prepared statements: at less cost, the same as on SQLAlchemy's own connection."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest
from opentelemetry.trace import StatusCode
from sqlalchemy import JSON, Column, Integer, MetaData, Table, Text, bindparam, func, insert, select
from sqlalchemy.exc import IntegrityError, OperationalError

from chassis.background import outbox
from chassis.errors import Unavailable
from chassis.signatures import AccessClaims
from chassis.storage import idempotency
from chassis.storage.columns import UtcDateTime
from chassis.storage.database import DatabaseManager
from chassis.storage.ids import uuid7
from chassis.storage.prepared import Prepared
from chassis.telemetry.statements import trace_statements
from chassis.telemetry.tracing import span
from config import AppConfig
from tests.support.factories import begin_log_in, make_user
from tests.support.ports import HOST, free_port
from tests.support.servers import PostgreSQLServer
from tests.support.spans import memory
from tests.support.tables import existing
from tests.support.waiting import eventually
from userservice.logins.queries import tokens
from userservice.users import credentials_queries, queries

SHORT = timedelta(seconds=0.2)
SECRET = "ada@example.com"
ELSEWHERE = datetime(2024, 5, 6, 7, 8, 9, 123456, tzinfo=timezone(timedelta(hours=5, minutes=30)))
BODY = b'{"email": "ada@example.com"}'

samples = Table(
    "samples",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("at", UtcDateTime),
    Column("document", JSON),
    Column("note", Text),
)
INSERT_SAMPLE = Prepared(insert(samples).values({c.name: bindparam(c.name) for c in samples.c}))
GET_SAMPLE = Prepared(select(samples).where(samples.c.id == bindparam("key"), samples.c.id > 0))
SLEEP = Prepared(select(func.pg_sleep(bindparam("seconds"))))
END_PROCESS = Prepared(select(func.pg_terminate_backend(func.pg_backend_pid())))
GET_PROCESS = Prepared(select(func.pg_backend_pid()))

on_postgresql = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


@pytest.fixture
def sampled(database):
    """The database, with an empty table."""
    with existing(samples, database):
        yield database


@pytest.fixture
def impatient(postgresql_url):
    """A database of one connection, whose statements may take little time."""
    manager = DatabaseManager(
        postgresql_url,
        pool_size=1,
        max_overflow=0,
        pool_timeout=SHORT,
        statement_timeout=SHORT,
    ).initialize()
    yield manager
    manager.close()


def both_ways(database, read):
    """Return what a function finds on a connection for prepared statements, and on another."""
    with database.prepared() as connection:
        prepared = read(connection)
    with database.connection() as connection:
        return prepared, read(connection)


def assert_same(one, other):
    assert one == other
    assert type(one) is type(other)
    if isinstance(one, tuple):
        assert [type(each) for each in one] == [type(each) for each in other]


def processes(database, number):
    """Use so many connections at once; return the server's processes behind them."""
    if number == 0:
        return []
    with database.prepared() as connection:
        row = GET_PROCESS.first(connection, {})
        assert row is not None
        return [row[0], *processes(database, number - 1)]


def test_values_of_each_type_go_in_and_come_out_as_ever(sampled):
    values = {"id": 7, "at": ELSEWHERE, "document": {"a": [1, None, "ä"]}, "note": "100 % 'ä' :x"}
    with sampled.prepared() as connection:
        INSERT_SAMPLE.run(connection, values)
        INSERT_SAMPLE.run(connection, {"id": 8, "at": None, "document": None, "note": None})

    for key in (7, 8, 9):
        assert_same(*both_ways(sampled, lambda on, key=key: GET_SAMPLE.first(on, {"key": key})))
    with sampled.prepared() as connection:
        row = GET_SAMPLE.first(connection, {"key": 7})
    assert row == (7, ELSEWHERE.astimezone(UTC), values["document"], values["note"])


def test_users_are_read_the_same_on_both_kinds_of_connection(database):
    user = make_user(database, email=SECRET, password="a long enough sentence", source="web")
    begin_log_in(database, AppConfig(), user)
    with database.connection() as connection:
        session_id = connection.scalar(select(tokens.c.family_id))

    for user_id, address in ((user.id, SECRET), (uuid7(), "nobody@example.com")):
        for read in (
            lambda on, key=user_id: queries.find_user(on, key),
            lambda on, key=user_id: credentials_queries.find_is_superuser(
                on, AccessClaims(key, session_id, ELSEWHERE)
            ),
            lambda on, key=user_id: credentials_queries.find_claims(
                on, AccessClaims(key, None, ELSEWHERE)
            ),
            lambda on, key=address: credentials_queries.find_credentials(on, key),
        ):
            assert_same(*both_ways(database, read))
    with database.prepared() as connection:
        assert queries.find_user(connection, user.id) == user
        for claims in (
            AccessClaims(user.id, session_id, ELSEWHERE),
            AccessClaims(user.id, None, ELSEWHERE),
        ):
            assert credentials_queries.find_is_superuser(connection, claims) is False
            assert credentials_queries.find_claims(connection, claims) == {
                "roles": [],
                "email_verified": False,
            }
        credentials = credentials_queries.find_credentials(connection, SECRET)
    assert credentials is not None
    assert isinstance(credentials.id, UUID)


def test_a_user_and_its_message_are_stored_the_same_on_both_kinds_of_connection(database):
    stored: list[tuple[Any, ...]] = []
    # Without PostgreSQL these are two statements, which no prepared connection holds together.
    for use in (database.prepared, database.transaction):
        number = len(stored)
        values = {
            "id": uuid7(),
            "email": f"{number}@example.com",
            "email_key": f"{number}@example.com",
            "mailbox_key": f"{number}@example.com",
            "name": "100 % 'Ada'",
            "signup_source": "web",
            "tier": "free",
            "is_superuser": True,
            "password_hash": None,
            "created_at": ELSEWHERE,
        }
        message = outbox.new_message("user.registered", {"a": number})
        with use() as connection:
            queries.insert_user(connection, values, message)
        stored.append(stored_rows(database, values["id"], message["message_id"]))

    assert stored[0] == stored[1]


def stored_rows(database, user_id, message_id):
    """Return a user and a message, less the columns in which any two differ."""
    users, messages = queries.users.c, outbox.messages.c
    user = [c for c in users if c.name not in {"id", "email", "email_key", "mailbox_key"}]
    message = [c for c in messages if c.name not in {"id", "payload", "due_at", "expires_at"}]
    with database.connection() as connection:
        return (
            connection.execute(select(*user).where(users.id == user_id)).one(),
            connection.execute(select(*message).where(messages.id == message_id)).one(),
        )


def test_an_answer_is_recalled_as_it_was_stored(database):
    request = idempotency.Request("POST /users", "key", BODY)
    idempotency.recall(database, request)
    with database.transaction() as connection:
        idempotency.reserve(connection, request, "the answer")

    with pytest.raises(idempotency.AlreadyAnswered) as recalled:
        idempotency.recall(database, request)

    assert recalled.value.answer == "the answer"


def test_a_refused_row_is_the_same_error_without_the_values(sampled):
    errors = []
    for use in (sampled.prepared, sampled.connection):
        with pytest.raises(IntegrityError) as caught, use() as connection:
            insert_twice(connection)
        errors.append(caught.value)

    prepared, ordinary = errors
    assert str(prepared) == str(ordinary)
    assert type(prepared.orig) is type(ordinary.orig)
    assert prepared.statement == ordinary.statement
    assert prepared.connection_invalidated is False
    assert SECRET not in str(prepared)
    sampled.ping()


def insert_twice(connection):
    """Look whether a row is there, insert it, and insert it again."""
    GET_SAMPLE.first(connection, {"key": 7})
    for _ in range(2):
        INSERT_SAMPLE.run(connection, {"id": 7, "at": None, "document": None, "note": SECRET})


def test_a_missing_parameter_is_a_bug_and_costs_no_connection(database):
    with pytest.raises(Exception, match="key"), database.prepared() as connection:
        GET_SAMPLE.first(connection, {})

    assert database.pool_usage()["in_use"] == 0


def test_a_statement_that_takes_too_long_is_unavailable_and_its_connection_stays(impatient):
    before = processes(impatient, 1)

    with pytest.raises(Unavailable) as caught, impatient.prepared() as connection:
        SLEEP.first(connection, {"seconds": 60})

    assert isinstance(caught.value.__cause__, OperationalError)
    assert caught.value.__cause__.connection_invalidated is False
    assert processes(impatient, 1) == before


def test_a_pool_that_is_exhausted_is_unavailable(impatient):
    with (
        impatient.prepared(),
        pytest.raises(Unavailable),
        impatient.prepared(),
    ):
        pass

    impatient.ping()


def test_a_database_that_is_not_there_is_unavailable():
    database = DatabaseManager(f"postgresql://app@{HOST}:{free_port()}/app").initialize()

    with pytest.raises(Unavailable) as caught, database.prepared():
        pass

    assert isinstance(caught.value.__cause__, OperationalError)
    database.close()


@on_postgresql
def test_a_connection_that_breaks_takes_those_that_are_as_old_out_of_the_pool(database):
    before = processes(database, 3)

    with pytest.raises(Unavailable) as caught, database.prepared() as connection:
        END_PROCESS.first(connection, {})

    assert isinstance(caught.value.__cause__, OperationalError)
    assert caught.value.__cause__.connection_invalidated is True
    assert database.pool_usage()["in_use"] == 0
    assert not set(before) & set(processes(database, 3))


def test_connections_that_a_restart_of_postgresql_broke_are_replaced_without_an_error():
    with PostgreSQLServer() as server:
        database = DatabaseManager(server.url).initialize()
        for immediate in (False, True):
            before = processes(database, 4)
            server.restart(immediate=immediate)

            after = processes(database, 4)

            assert not set(before) & set(after)
        database.close()


@on_postgresql
def test_an_exit_in_the_middle_costs_the_connection(database):
    before = processes(database, 1)

    with pytest.raises(KeyboardInterrupt), database.prepared():
        raise KeyboardInterrupt

    assert database.pool_usage()["in_use"] == 0
    assert not set(before) & set(processes(database, 1))


def test_a_statement_that_stalls_is_cut(postgresql_url):
    database = DatabaseManager(
        postgresql_url, pool_size=1, statement_timeout=timedelta(seconds=60)
    ).initialize()
    database._stall_watch._patience_seconds = 0  # noqa: SLF001 - no caller waits for so little
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(sleep, database)
        eventually(lambda: database.pool_usage()["in_use"] == 1)
        eventually(lambda: is_cut(database, waiting))

        with pytest.raises(Unavailable):
            waiting.result()
    database.ping()
    database.cut_stalled()
    database.ping()
    database.close()


def is_cut(database, waiting):
    database.cut_stalled()
    return waiting.done()


def sleep(database):
    with database.prepared() as connection:
        SLEEP.first(connection, {"seconds": 50})


def test_spans_say_the_same_of_both_kinds_of_connection(spans, sampled):
    trace_statements(sampled.engine)
    told = []
    for use in (sampled.prepared, sampled.connection):
        memory().clear()
        with span("request"), pytest.raises(IntegrityError), use() as connection:
            insert_twice(connection)
        request = spans()["request"].context.span_id
        told.append([describe(each, request) for each in memory().get_finished_spans()])
        with sampled.connection() as connection:
            connection.execute(samples.delete())

    assert told[0] == told[1]
    inserted = ["INSERT samples"] * 2
    assert [each[0] for each in told[0]] == ["SELECT samples", *inserted, "request"]
    assert told[0][2][2] is StatusCode.ERROR
    assert all(SECRET not in each.to_json() for each in memory().get_finished_spans())


def describe(each, request):
    is_child = each.parent is not None and each.parent.span_id == request
    return each.name, each.kind, each.status.status_code, dict(each.attributes), is_child


def test_an_unrecorded_request_has_no_spans(spans, sampled):
    trace_statements(sampled.engine)

    with sampled.prepared() as connection:
        GET_SAMPLE.first(connection, {"key": 7})

    assert spans() == {}
