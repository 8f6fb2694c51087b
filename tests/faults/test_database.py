"""The database fails under load: what callers see, and that the service recovers by itself."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import httpx2
import pytest
from sqlalchemy import text

from tests.support.factories import ADA
from tests.support.faults import Mode
from tests.support.load import Stored, missing_mails, registering, violations
from tests.support.operating import OURS, operating, read_only
from tests.support.waiting import ANSWER_SECONDS, DEADLINE_SECONDS, eventually

pytestmark = pytest.mark.integration

WAITING = ("wait_event_type", "Lock")
IDLE = ("state", "idle")
ANOTHER_ADA = text(
    "INSERT INTO users (id, email, email_key, name, status, signup_source, tier, is_superuser,"
    " version, created_at, updated_at) VALUES (gen_random_uuid(), 'ada@example.com',"
    " 'ada@example.com', 'Ada', 'active', 'web', 'free', false, 1, now(), now())"
)


@pytest.fixture
def through_proxy(proxy, postgresql_server):
    """Variables that lead a process to the database through the proxy."""
    port = f":{postgresql_server.port}/"
    return {"DATABASE_URL": postgresql_server.url.replace(port, f":{proxy.port}/")}


@pytest.fixture(params=[Mode.BLACKHOLE, Mode.RESET])
def broken_network(request, proxy):
    """Call that breaks the way to the database for as long as a block runs."""
    return partial(proxy.behaving, request.param)


def serves_again(load):
    """Wait until users are registered again."""
    before = load.count(201)
    eventually(lambda: load.count(201) > before + 3)


def assert_promises_kept(load, database_url, provider):
    eventually(lambda: not missing_mails(Stored.read(database_url), provider.taken))
    assert violations(load, Stored.read(database_url), provider.attempts) == []
    assert load.unanswered == []
    assert set(load.statuses) <= {201, 503}
    assert all(each.retry_after for each in load.attempts if each.status == 503)
    assert max(each.seconds for each in load.attempts) < ANSWER_SECONDS


def server_processes(connection, column, value):
    """Return the ids of the server's processes that work for the service, of some kind."""
    statement = f"SELECT pid FROM pg_stat_activity WHERE {column} = :value AND {OURS}"  # noqa: S608 - text from here
    return connection.execute(text(statement), {"value": value}).scalars().all()


@contextmanager
def frozen(pids):
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def test_nothing_is_lost_when_postgresql_crashes_under_load_and_comes_back(
    deployment, postgresql_server, provider
):
    web, worker = deployment.both()

    with registering(web.url) as load:
        postgresql_server.stop(immediate=True)
        eventually(lambda: load.count(503) > 3)
        eventually(lambda: web.get("/ready") == 503)
        health = web.get("/health")
        postgresql_server.start()
        serves_again(load)
        eventually(lambda: web.get("/ready") == 200)

    assert health == 200
    assert_promises_kept(load, postgresql_server.url, provider)
    assert worker.is_alive


def test_a_restart_of_postgresql_under_load_needs_no_restart_of_the_service(
    deployment, postgresql_server, provider
):
    web, _ = deployment.both()
    processes = web.children

    with registering(web.url) as load:
        postgresql_server.restart()
        serves_again(load)
        postgresql_server.restart(immediate=True)
        serves_again(load)

    assert web.children == processes
    assert_promises_kept(load, postgresql_server.url, provider)


def test_a_server_process_frozen_in_mid_query_costs_one_caller_a_503_and_no_other_anything(
    deployment, postgresql_server
):
    web, worker = deployment.both()

    with operating(postgresql_server.url) as operator, ThreadPoolExecutor(1) as caller:
        # The caller's statement waits for this row, where a frozen process blocks no others.
        operator.execute(text("BEGIN"))
        operator.execute(ANOTHER_ADA)
        waiting = caller.submit(httpx2.post, f"{web.url}/users", json=ADA, timeout=DEADLINE_SECONDS)
        eventually(lambda: server_processes(operator, *WAITING))
        with frozen(server_processes(operator, *WAITING)), registering(web.url) as load:
            operator.execute(text("ROLLBACK"))
            answer = waiting.result()
            serves_again(load)

    assert answer.status_code == 503
    assert answer.headers["Retry-After"]
    assert answer.elapsed.total_seconds() < ANSWER_SECONDS
    assert set(load.statuses) == {201}
    assert worker.is_alive


def test_frozen_server_processes_behind_idle_connections_are_given_up(
    deployment, postgresql_server, provider
):
    web = deployment.web()
    web.await_ready()
    with registering(web.url):
        pass

    with operating(postgresql_server.url) as operator:
        idle = server_processes(operator, *IDLE)
    with frozen(idle), registering(web.url) as load:
        serves_again(load)
    deployment.worker()

    assert load.count(503) > 0
    assert_promises_kept(load, postgresql_server.url, provider)


def test_a_network_that_swallows_or_resets_is_answered_with_503_in_time_and_got_over(
    deployment, broken_network, through_proxy, postgresql_server, provider
):
    web, _ = deployment.both(**through_proxy)

    with registering(web.url) as load:
        with broken_network():
            eventually(lambda: load.count(503) > 3)
            eventually(lambda: web.get("/ready") == 503)
            health = web.get("/health")
        serves_again(load)
        eventually(lambda: web.get("/ready") == 200)

    assert health == 200
    assert_promises_kept(load, postgresql_server.url, provider)


def test_a_slow_network_slows_answers_and_fails_none(
    deployment, proxy, through_proxy, postgresql_server, provider
):
    web, _ = deployment.both(**through_proxy)

    with registering(web.url) as load, proxy.behaving(Mode.LATENCY):
        serves_again(load)

    assert set(load.statuses) == {201}
    assert_promises_kept(load, postgresql_server.url, provider)


def test_a_database_that_turns_read_only_is_an_outage_and_needs_no_restart(
    deployment, postgresql_server, provider
):
    web, worker = deployment.both()
    processes = web.children

    with registering(web.url) as load:
        serves_again(load)
        with read_only(postgresql_server.url):
            eventually(lambda: load.count(503) > 3)
            eventually(lambda: web.get("/ready") == 503)
            eventually(lambda: worker.logged("The database is away"))
        serves_again(load)
        eventually(lambda: web.get("/ready") == 200)

    assert web.children == processes
    assert worker.is_alive
    assert_promises_kept(load, postgresql_server.url, provider)
