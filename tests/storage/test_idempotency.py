"""Idempotency-Key: a request that is sent again is answered again, and done once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta

import pytest
import requests
from sqlalchemy import select, text, update

from chassis.errors import Unavailable
from chassis.storage import idempotency
from chassis.storage.database import DatabaseManager
from tests.conftest import API_KEY
from tests.support.factories import ADA, bearer_of, make_user
from tests.support.waiting import DEADLINE_SECONDS, eventually
from tests.support.web import serve
from userservice.users import registration, service
from userservice.users.errors import EmailTaken
from userservice.users.schemas import UserCreate

KEY = {"Idempotency-Key": "4be1c9a3-7d4e-4d7e-9f9c-3a3b0c1d2e3f"}
JSON = {"Content-Type": "application/json"}
GRACE = ADA | {"email": "grace@example.com", "name": "Grace Hopper"}
PARALLEL = 50

# SQLite has one writer: a second one waits for it, whatever its key.
on_postgresql = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


@pytest.fixture
def clock(database):
    """Let time pass for what is stored: the clock is the database's."""

    def advance(span):
        rows = {row.id: row.created_at for row in stored_keys(database)}
        with database.connection() as connection:
            for key, created_at in rows.items():
                older = update(idempotency.keys).values(created_at=created_at - span)
                connection.execute(older.where(idempotency.keys.c.id == key))

    return advance


def count_users(database):
    return service.count_users(database)["active"]


def stored_keys(database):
    with database.connection() as connection:
        return connection.execute(select(idempotency.keys)).all()


def test_a_request_that_is_sent_again_is_answered_byte_for_byte(client, database):
    first = client.post("/users", json=ADA, headers=KEY)

    again = client.post("/users", json=ADA, headers=KEY)

    assert (again.status_code, again.data) == (first.status_code, first.data) == (201, first.data)
    for name in ("Location", "ETag", "Last-Modified", "Content-Type", "Cache-Control"):
        assert again.headers[name] == first.headers[name]
    assert again.headers["Idempotent-Replayed"] == "true"
    assert "Idempotent-Replayed" not in first.headers
    assert count_users(database) == 1


def test_a_replay_has_a_request_id_of_its_own(client):
    first = client.post("/users", json=ADA, headers=KEY)

    again = client.post("/users", json=ADA, headers=KEY)

    assert again.headers["X-Request-ID"] != first.headers["X-Request-ID"]


def test_a_replay_says_what_was_so_then(client, service_client):
    first = client.post("/users", json=ADA, headers=KEY)
    service_client.patch(first.headers["Location"], json={"name": "Countess"})

    again = client.post("/users", json=ADA, headers=KEY)

    assert again.data == first.data


def test_without_a_key_the_second_request_is_a_request(client):
    client.post("/users", json=ADA)

    assert client.post("/users", json=ADA).status_code == 409


def test_a_key_belongs_to_one_body(client, database):
    client.post("/users", json=ADA, headers=KEY)

    response = client.post("/users", json=GRACE, headers=KEY)

    assert response.status_code == 422
    assert response.json["code"] == "idempotency_key_reused"
    assert count_users(database) == 1


def test_a_body_is_the_same_when_its_bytes_are(client):
    client.post("/users", data=b'{"email":"a@example.com","name":"A"}', headers=KEY | JSON)

    response = client.post(
        "/users", data=b'{"name":"A","email":"a@example.com"}', headers=KEY | JSON
    )

    assert response.status_code == 422


@pytest.mark.parametrize(
    ("refused", "status"), [({"name": "Ada"}, 400), (GRACE | {"name": "Other"}, 409)], ids=str
)
def test_an_answer_that_is_no_201_leaves_the_key_free(client, database, refused, status):
    make_user(database, email=GRACE["email"])
    first = client.post("/users", json=refused, headers=KEY)
    kept = stored_keys(database)

    second = client.post("/users", json=ADA, headers=KEY)

    assert (first.status_code, kept) == (status, [])
    assert second.status_code == 201
    assert "Idempotent-Replayed" not in second.headers


def test_the_same_key_of_another_caller_is_another_key(client, config, database):
    superusers = [make_user(database, is_superuser=True) for _ in range(2)]
    callers = [
        {},
        {"X-API-Key": API_KEY},
        *(bearer_of(database, config, user) for user in superusers),
    ]

    responses = [
        client.post("/users", json=ADA | {"email": f"ada{n}@example.com"}, headers=KEY | caller)
        for n, caller in enumerate(callers)
    ]

    assert [response.status_code for response in responses] == [201] * 4
    assert all("Idempotent-Replayed" not in response.headers for response in responses)


@pytest.mark.parametrize("key", ["a", "a" * 255, "with blanks and ~"])
def test_a_key_has_up_to_255_printable_characters(client, key):
    response = client.post("/users", json=ADA, headers={"Idempotency-Key": key})

    assert response.status_code == 201


@pytest.mark.parametrize("key", ["", "a" * 256, "schl\xfcssel", "a\tb"], ids=repr)
def test_another_key_is_refused(client, database, key):
    response = client.post("/users", json=ADA, headers={"Idempotency-Key": key})

    assert response.status_code == 400
    assert response.json["detail"].startswith("Idempotency-Key must have 1 to 255")
    assert count_users(database) == 0


def test_a_key_is_kept_for_a_day(client, clock):
    client.post("/users", json=ADA, headers=KEY)

    clock(timedelta(hours=24) - timedelta(minutes=1))

    again = client.post("/users", json=ADA, headers=KEY)
    assert again.headers["Idempotent-Replayed"] == "true"


def test_a_key_is_free_after_a_day_even_before_it_is_swept(client, database, clock):
    client.post("/users", json=ADA, headers=KEY)

    clock(timedelta(hours=24, minutes=1))

    again = client.post("/users", json=GRACE, headers=KEY)
    assert again.status_code == 201
    assert "Idempotent-Replayed" not in again.headers
    assert len(stored_keys(database)) == 1


def test_neither_key_nor_body_is_stored(client, database):
    client.post("/users", json=ADA | {"password": "correct horse battery"}, headers=KEY)

    [row] = stored_keys(database)
    assert KEY["Idempotency-Key"] not in repr(row)
    assert "correct horse" not in repr(row)


def test_the_hash_of_a_body_tells_nothing_to_who_does_not_know_the_key():
    body = b'{"email":"a@example.com","name":"A","password":"12345678"}'

    hashes = {idempotency.Request("caller", key, body).hash for key in ("first", "second")}

    assert len(hashes) == 2


def test_key_and_user_are_stored_together_or_not_at_all(database, services):
    request = idempotency.Request("caller", "key", b"body")

    def reserve(connection, _user):
        idempotency.reserve(connection, request, "answer")

    new = UserCreate.model_validate(ADA)
    make_user(database, email=ADA["email"])
    with pytest.raises(EmailTaken):
        registration.register_user(database, services.hasher, new, in_transaction=reserve)

    assert stored_keys(database) == []


def test_a_key_that_cannot_be_stored_leaves_no_user(database, services):
    def fail(_connection, _user):
        raise Unavailable

    with pytest.raises(Unavailable):
        registration.register_user(
            database, services.hasher, UserCreate.model_validate(ADA), in_transaction=fail
        )

    assert count_users(database) == 0


def test_a_request_that_was_first_in_the_end_is_replayed(database):
    """Both looked for an answer, found none, and went on; one was quicker."""
    request = idempotency.Request("caller", "key", b"body")
    with database.transaction() as connection:
        idempotency.reserve(connection, request, "the first answer")

    with pytest.raises(idempotency.AlreadyAnswered) as answered, database.transaction() as second:
        idempotency.reserve(second, request, "the second answer")

    assert answered.value.answer == "the first answer"


@on_postgresql
def test_a_request_whose_key_is_in_flight_for_long_is_told_to_come_back(database, client):
    request = idempotency.Request("anonymous create_user", KEY["Idempotency-Key"], b"other")

    with database.transaction() as connection:
        idempotency.reserve(connection, request, "answer")
        response = client.post("/users", json=ADA, headers=KEY)

    assert response.status_code == 409
    assert response.json["code"] == "idempotency_key_in_flight"
    assert int(response.headers["Retry-After"]) >= 1
    assert count_users(database) == 0


@on_postgresql
def test_a_connection_that_breaks_below_a_key_is_an_outage_and_no_key_in_flight(database):
    request = idempotency.Request("caller", "key", b"body")

    with pytest.raises(Unavailable), ended(database) as connection:
        idempotency.reserve(connection, request, "answer")


@contextmanager
def ended(database):
    """Yield the connection of a transaction, whose session the server has ended."""
    with database.transaction() as connection, database.connection() as another:
        pid = connection.scalar(text("SELECT pg_backend_pid()"))
        another.execute(text("SELECT pg_terminate_backend(:pid, 10000)"), {"pid": pid})
        yield connection


@on_postgresql
def test_a_key_leaves_no_limit_on_locks_to_the_next_user_of_its_connection(database_url):
    database = DatabaseManager(database_url, pool_size=1, max_overflow=0).initialize()
    with database.transaction() as connection:
        idempotency.reserve(connection, idempotency.Request("caller", "key", b"body"), "answer")
        within = connection.scalar(text("SHOW lock_timeout"))

    with database.connection() as connection:
        afterwards = connection.scalar(text("SHOW lock_timeout"))

    assert (within, afterwards) == ("2s", "0")
    database.close()


@on_postgresql
def test_a_request_whose_key_is_in_flight_for_short_waits_and_is_replayed(database, client):
    if database.is_sqlite:
        pytest.skip("what waits cannot be seen in SQLite")
    body = b'{"email":"ada@example.com","name":"Ada"}'
    request = idempotency.Request("anonymous create_user", KEY["Idempotency-Key"], body)
    answer = '[201, {"Location": "/users/1"}, "{}"]'

    with ThreadPoolExecutor() as pool:
        with database.transaction() as connection:
            idempotency.reserve(connection, request, answer)
            waiting = pool.submit(client.post, "/users", data=body, headers=KEY | JSON)
            eventually(lambda: someone_waits(database))
        response = waiting.result()

    assert (response.status_code, response.data) == (201, b"{}")
    assert response.headers["Idempotent-Replayed"] == "true"
    assert count_users(database) == 0


def someone_waits(database):
    statement = text(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    with database.connection() as connection:
        return connection.scalar(statement)


@pytest.mark.integration
@pytest.mark.slow
def test_of_many_requests_with_one_key_one_creates_a_user(postgresql_url):
    barrier = threading.Barrier(PARALLEL)

    def register(web):
        barrier.wait()
        return requests.post(f"{web.url}/users", json=ADA, headers=KEY, timeout=DEADLINE_SECONDS)

    with (
        serve(
            DATABASE_URL=postgresql_url, API_KEY=API_KEY, WEB_CONCURRENCY="3", WEB_THREADS="64"
        ) as web,
        ThreadPoolExecutor(PARALLEL) as pool,
    ):
        answers = list(pool.map(register, [web] * PARALLEL))
        listed = requests.get(
            f"{web.url}/users", headers={"X-API-Key": API_KEY}, timeout=DEADLINE_SECONDS
        )

    created = [answer for answer in answers if answer.status_code == 201]
    refused = [answer for answer in answers if answer.status_code != 201]
    fresh = [answer for answer in created if "Idempotent-Replayed" not in answer.headers]
    assert len(fresh) == 1
    assert {answer.content for answer in created} == {fresh[0].content}
    assert {answer.headers["Location"] for answer in created} == {fresh[0].headers["Location"]}
    assert all(answer.status_code == 409 for answer in refused)
    assert all(int(answer.headers["Retry-After"]) >= 1 for answer in refused)
    assert [user["id"] for user in listed.json()["items"]] == [fresh[0].json()["id"]]
