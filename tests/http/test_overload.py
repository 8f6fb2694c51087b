"""A bounded number of requests is worked on; the rest is told at once to come back."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest
import requests
from flask import Flask, Response
from sqlalchemy import text

from chassis.errors import Unavailable
from chassis.http import admission
from chassis.http.auth import public
from chassis.http.layers import wrap
from chassis.http.problem import register_error_handlers
from chassis.security import PasswordHasher
from chassis.storage.database import DatabaseManager
from tests.conftest import API_KEY, make_app
from tests.support.factories import ADA
from tests.support.waiting import DEADLINE_SECONDS, eventually
from tests.support.web import serve

THREADS = 2


@pytest.fixture
def gate():
    """Opens for all requests that wait in /slow."""
    gate = threading.Event()
    yield gate
    gate.set()


@pytest.fixture
def busy_app(gate):
    """An application for two requests at a time, which has slow and broken routes."""
    app = Flask("test")
    entered = app.extensions["entered"] = threading.Semaphore(0)
    wrap(app, [partial(admission.layer, limit=THREADS)])
    register_error_handlers(app)

    @app.get("/slow")
    @public
    def slow():
        entered.release()
        assert gate.wait(DEADLINE_SECONDS)
        return "done"

    @app.get("/broken")
    @public
    def broken():
        raise RuntimeError

    @app.get("/stream")
    @public
    def stream():
        return Response(iter(["first", "second"]))

    for path in ("/health", "/ready", "/metrics", "/version", "/users"):
        app.add_url_rule(path, path, public(lambda: "fine"))
    return app


@pytest.fixture
def busy(busy_app):
    """The same, with all its slots taken."""
    with ThreadPoolExecutor(THREADS) as pool:
        running = [pool.submit(get, busy_app, "/slow") for _ in range(THREADS)]
        for _ in range(THREADS):
            assert busy_app.extensions["entered"].acquire(timeout=DEADLINE_SECONDS)
        yield busy_app, running


def get(app, path):
    with app.test_client() as client:
        return client.get(path, buffered=True)


def test_a_request_too_many_is_told_at_once_to_come_back(busy, gate):
    app, running = busy

    refused = get(app, "/users")
    gate.set()

    assert refused.status_code == 503
    assert refused.content_type == "application/problem+json"
    assert refused.json["code"] == "unavailable"
    assert int(refused.headers["Retry-After"]) >= 1
    assert [each.result().data for each in running] == [b"done"] * THREADS


def test_an_unknown_path_is_no_way_around(busy, gate):
    app, _ = busy

    response = get(app, "/unknown")
    gate.set()

    assert response.status_code == 503


@pytest.mark.parametrize("path", ["/health", "/ready", "/metrics", "/version"])
def test_probes_are_answered_all_the_same(busy, gate, path):
    app, _ = busy

    response = get(app, path)
    gate.set()

    assert (response.status_code, response.data) == (200, b"fine")


def test_slots_are_free_again_when_the_requests_are_done(busy, gate):
    app, running = busy
    gate.set()
    for each in running:
        each.result()

    assert [get(app, "/users").status_code for _ in range(THREADS + 1)] == [200] * (THREADS + 1)


def test_a_slot_is_free_again_after_a_view_that_failed(busy_app):
    answers = [get(busy_app, "/broken").status_code for _ in range(THREADS + 1)]

    assert answers == [500] * (THREADS + 1)
    assert get(busy_app, "/users").status_code == 200


def test_a_slot_is_free_again_after_an_application_that_failed(busy_app, monkeypatch):
    def fail(_environ, _start_response):
        raise MemoryError

    monkeypatch.setattr(busy_app.wsgi_app, "_app", fail)
    for _ in range(THREADS + 1):
        with pytest.raises(MemoryError):
            get(busy_app, "/users")
    monkeypatch.undo()

    assert get(busy_app, "/users").status_code == 200


def test_a_slot_is_held_until_the_last_byte_and_then_free(busy_app):
    client = busy_app.test_client()
    streams = [client.get("/stream") for _ in range(THREADS)]

    during = get(busy_app, "/users").status_code
    bodies = []
    for stream in streams:
        bodies.append(stream.data)
        stream.close()
    after = get(busy_app, "/users").status_code

    assert (during, after) == (503, 200)
    assert bodies == [b"firstsecond"] * THREADS


def test_a_slot_is_free_again_when_the_client_leaves_a_stream(busy_app):
    for _ in range(THREADS + 1):
        stream = busy_app.test_client().get("/stream")
        stream.close()

    assert get(busy_app, "/users").status_code == 200


def test_the_number_in_flight_is_that_of_the_web_threads(config, services):
    app = make_app(replace(config, web_threads=1), services)
    held = app.test_client().get("/users/export", headers={"X-API-Key": API_KEY}, buffered=False)

    refused = app.test_client().get("/users", headers={"X-API-Key": API_KEY})
    held.close()
    answered = app.test_client().get("/users", headers={"X-API-Key": API_KEY})

    assert (refused.status_code, answered.status_code) == (503, 200)


def test_a_refusal_carries_the_headers_that_every_answer_does(config, services):
    app = make_app(replace(config, web_threads=1), services)
    held = app.test_client().get("/openapi.json", buffered=False)

    refused = app.test_client().get("/users")
    held.close()

    assert refused.headers["X-Request-ID"] == refused.json["request_id"]
    assert refused.headers["X-Content-Type-Options"] == "nosniff"


def test_log_ins_beyond_the_memory_for_hashes_are_told_to_come_back(config, services):
    hasher = PasswordHasher(memory_kib=8, time_cost=1, parallel=1, patience=timedelta(0))
    client = make_app(config, replace(services, hasher=hasher)).test_client()
    form = {"grant_type": "password", "username": "a@example.com", "password": "p"}

    with hasher._slot():  # noqa: SLF001 - another log-in
        refused = client.post("/auth/token", data=form)
    answered = client.post("/auth/token", data=form)

    assert (refused.status_code, answered.status_code) == (503, 400)
    assert int(refused.headers["Retry-After"]) >= 1


@pytest.mark.integration
def test_a_statement_that_takes_too_long_is_503(postgresql_url, config):
    slow = replace(config, database_url=postgresql_url, database_statement_timeout_seconds=0.1)
    client = make_app(slow).test_client()
    database = DatabaseManager(postgresql_url).initialize()

    with database.transaction() as connection:
        connection.execute(text("LOCK TABLE users IN ACCESS EXCLUSIVE MODE"))
        refused = client.post("/users", json=ADA)
    answered = client.post("/users", json=ADA)
    database.close()

    assert refused.status_code == 503
    assert int(refused.headers["Retry-After"]) >= 1
    assert answered.status_code == 201


@pytest.mark.integration
def test_a_statement_ends_at_the_database_and_holds_no_connection(postgresql_url):
    database = DatabaseManager(
        postgresql_url, pool_size=1, max_overflow=0, statement_timeout=timedelta(milliseconds=50)
    ).initialize()

    with pytest.raises(Unavailable), database.connection() as connection:
        connection.execute(text("SELECT pg_sleep(3600)"))

    database.ping()
    database.close()


@pytest.mark.integration
@pytest.mark.slow
def test_probes_are_answered_while_every_slot_of_a_process_is_taken(postgresql_url):
    database = DatabaseManager(postgresql_url).initialize()
    headers = {"X-API-Key": API_KEY}

    def listing(web):
        return requests.get(
            f"{web.url}/users", headers=headers, timeout=DEADLINE_SECONDS
        ).status_code

    with (
        serve(
            DATABASE_URL=postgresql_url,
            API_KEY=API_KEY,
            WEB_CONCURRENCY="1",
            WEB_THREADS=str(THREADS),
            DATABASE_STATEMENT_TIMEOUT_SECONDS="600",
        ) as web,
        ThreadPoolExecutor(THREADS) as pool,
    ):
        with database.transaction() as connection:
            connection.execute(text("LOCK TABLE users IN ACCESS EXCLUSIVE MODE"))
            waiting = [pool.submit(listing, web) for _ in range(THREADS)]
            eventually(lambda: count_waiting(database) == THREADS)
            probe = requests.get(f"{web.url}/health", timeout=DEADLINE_SECONDS).status_code
            refused = listing(web)
        answered = [each.result() for each in waiting]
    database.close()

    assert (probe, refused) == (200, 503)
    assert answered == [200] * THREADS


def count_waiting(database):
    statement = text(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    with database.connection() as connection:
        return connection.scalar(statement)
