"""The background process: what it tells about itself."""

from __future__ import annotations

import socket
import sys
import threading
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import httpx2
import pytest
from sqlalchemy import text, update

from chassis.background import outbox, upkeep
from chassis.background.delivery import STALLED_SECONDS, Delivery
from chassis.background.dispatch import LocalDispatcher
from chassis.background.processes import TaskKilled
from chassis.errors import Unavailable
from chassis.http.entrance import hosts
from chassis.storage.database import DatabaseManager
from config import Environment
from tests.support import processes
from tests.support.loopback import NO_TLS
from tests.support.ports import HOST, free_port, listening
from tests.support.waiting import DEADLINE_SECONDS, eventually
from userservice.jobs import service as jobs
from userservice.jobs import uploads
from userservice.jobs.models import UploadFormat
from workers import _watch, deliver_beside, make_delivery, serve_worker_status

BROKEN = """
import workers
from config import AppConfig
workers.Delivery.run = lambda delivery: 1 / 0
workers.run_worker(AppConfig.from_env())
"""


def ask(port, path):
    return httpx2.get(f"http://{HOST}:{port}{path}", timeout=DEADLINE_SECONDS, verify=NO_TLS)


def test_a_worker_is_healthy_while_its_loop_goes_round():
    port, goes_round = free_port(), threading.Event()
    serve_worker_status(port, goes_round.is_set)

    goes_round.set()
    alive = ask(port, "/health")
    goes_round.clear()
    stalled = ask(port, "/health")
    metrics = ask(port, "/metrics")

    assert (alive.status_code, stalled.status_code, metrics.status_code) == (200, 503, 200)
    assert "# TYPE" in metrics.text


def test_the_status_is_there_by_each_family_of_addresses():
    port = free_port()
    serve_worker_status(port, lambda: True)

    families = ["127.0.0.1", "[::1]"] if hosts()[0] == "::" else ["127.0.0.1"]
    answers = [httpx2.get(f"http://{host}:{port}/health", timeout=10) for host in families]

    assert [each.status_code for each in answers] == [200] * len(families)


def test_a_client_of_the_status_port_that_says_nothing_is_left(monkeypatch):
    monkeypatch.setattr("workers._QuietHandler.timeout", 0.05)
    port = free_port()
    serve_worker_status(port, lambda: True)

    with socket.create_connection((HOST, port), timeout=DEADLINE_SECONDS) as client:
        client.sendall(b"GET /health HT")
        received = client.recv(100)

    assert received == b""


def test_a_loop_that_has_not_gone_round_for_a_minute_is_stalled(services, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(
        "chassis.background.delivery.time", SimpleNamespace(monotonic=lambda: now[0])
    )
    delivery = Delivery(services, {}, dispatcher=LocalDispatcher(1), lease=timedelta(seconds=15))

    now[0] += STALLED_SECONDS - 1
    soon = delivery.is_alive()
    now[0] += 1
    later = delivery.is_alive()

    assert (soon, later) == (True, False)


def test_the_watch_goes_on_after_a_failure_less_and_less_often(services, monkeypatch, caplog):
    pauses: list[float] = []

    def sleep(seconds):
        pauses.append(seconds)
        if len(pauses) == 8:
            raise SystemExit

    monkeypatch.setattr("workers.time", SimpleNamespace(sleep=sleep))
    unusable = replace(services, database=DatabaseManager("sqlite://"))  # never initialized

    with pytest.raises(SystemExit):
        _watch(unusable)

    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]
    assert caplog.text.count("Watch broke; it goes on") == 7


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_the_watch_cuts_connections_that_stalled(services, monkeypatch):
    now = iter([1000.0, 5000.0])
    monkeypatch.setattr(
        "chassis.storage.stall_watch.time", SimpleNamespace(monotonic=lambda: next(now))
    )
    turns = iter([None])
    monkeypatch.setattr("workers.time", SimpleNamespace(sleep=lambda _seconds: next(turns)))

    with pytest.raises(Unavailable), watched(services) as connection:
        connection.execute(text("SELECT 1"))


@contextmanager
def watched(services):
    """Yield a connection that is in use for a turn of the watch."""
    with services.database.connection() as connection:
        with pytest.raises(StopIteration):
            _watch(services)
        yield connection


def test_a_worker_whose_loop_breaks_tells_its_supervisor(sqlite_url):
    ended = processes.run(
        sys.executable, "-c", BROKEN, variables={"DATABASE_URL": sqlite_url, "REDIS_URL": ""}
    )

    assert ended.returncode == 1
    assert "Worker broke" in ended.stdout


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("settings", "delivers"),
    [
        ({"environment": Environment.DEVELOPMENT}, True),
        ({"environment": Environment.DEVELOPMENT, "deliver_in_web": False}, False),
        ({"environment": Environment.STAGING}, False),
    ],
)
def test_a_web_process_delivers_in_development_alone(
    config, services, monkeypatch, settings, delivers
):
    ran = threading.Event()
    monkeypatch.setattr(Delivery, "run", lambda _delivery: ran.set())

    deliver_beside(replace(config, **settings), services)
    for thread in threading.enumerate():
        if thread.name == "delivery":
            thread.join(DEADLINE_SECONDS)

    assert ran.is_set() is delivers


class Dying:
    """Pools whose processes do not live to see the end of a task."""

    def submit_cpu_task(self, *_task):
        raise TaskKilled


@contextmanager
def delivering(config, services):
    delivery = make_delivery(config, services)
    thread = threading.Thread(target=delivery.run)
    thread.start()
    try:
        yield
    finally:
        delivery.stop()
        thread.join(DEADLINE_SECONDS)
        delivery.close(10)


def test_an_import_that_is_given_up_has_failed_and_goes_on_when_it_is_requeued(config, services):
    def state():
        return jobs.get_job(services.database, job.id)[0].state

    upload = b'{"email": "ada@example.com", "name": "Ada"}\n'
    job = uploads.start_import(services.database, UploadFormat.NDJSON, [upload])
    with services.database.connection() as connection:
        connection.execute(update(outbox.messages).values(expires_at=datetime.now(UTC)))

    with delivering(config, replace(services, tasks=Dying())):
        eventually(lambda: state() == "failed")
    failed, _ = jobs.get_job(services.database, job.id)
    with services.database.connection() as connection:
        requeued = upkeep.requeue(connection, None, now=datetime.now(UTC))
    with delivering(config, services):
        eventually(lambda: state() == "succeeded")
    done, _ = jobs.get_job(services.database, job.id)

    assert failed.reason == "The task ended its process"
    assert requeued == 1
    assert (done.reason, done.created) == (None, 1)


@pytest.mark.integration
def test_a_worker_answers_on_its_port_and_without_one_on_none(deployment):
    port = free_port()
    worker = deployment.worker(WORKER_METRICS_PORT=str(port))
    silent = deployment.worker()
    worker.await_ready()
    silent.await_ready()

    health = ask(port, "/health")
    eventually(lambda: "outbox_oldest_message_age_seconds" in ask(port, "/metrics").text)

    assert health.status_code == 200
    assert listening(worker.process.pid) == {port}
    assert listening(silent.process.pid) == set()
    assert [worker.stop()[0], silent.stop()[0]] == [0, 0]
