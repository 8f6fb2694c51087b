"""The stop: who is still served, how long it takes, and what ends it early."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx2
import pytest
from sqlalchemy import create_engine, text

from chassis.storage.database import with_driver
from tests.support import processes
from tests.support.factories import ADA
from tests.support.load import registering
from tests.support.ports import HOST
from tests.support.waiting import ANSWER_SECONDS, DEADLINE_SECONDS, eventually

pytestmark = pytest.mark.integration

NAMESPACE = ("unshare", "--pid", "--fork", "--kill-child")
DRAIN_SECONDS = 5  # long enough to look at it while it lasts
# Longer than any test waits: a stop that goes on until then is seen.
ENDLESS = {"TERMINATION_GRACE_SECONDS": "3600", "DATABASE_STATEMENT_TIMEOUT_SECONDS": "3600"}


SETTINGS = """
import runpy
settings = runpy.run_path("gunicorn.conf.py")
print(settings["graceful_timeout"], settings["app_config"].termination_grace_seconds)
"""


def seconds_of(web, phase):
    """Return how long a phase took, by the slowest process."""
    messages = [line["message"] for line in web.logged(f"Stopped: {phase}")]
    return max(float(re.findall(r"(\d+\.\d+) s", message)[0]) for message in messages)


@contextmanager
def locked(table, database_url):
    """Let whoever writes to a table wait until the block ends."""
    engine = create_engine(with_driver(database_url))
    with engine.begin() as connection:
        connection.execute(text(f"LOCK TABLE {table} IN EXCLUSIVE MODE"))
        yield
    engine.dispose()


def test_no_request_sent_before_the_drain_ended_is_dropped(deployment):
    web = deployment.web(WEB_CONCURRENCY="2", DRAIN_SECONDS=str(DRAIN_SECONDS))
    web.await_ready()

    with registering(web.url, clients=6) as load:
        before = len(load.attempts)
        drained_until = time.time() + DRAIN_SECONDS  # at the earliest
        web.send(signal.SIGTERM)
        eventually(lambda: web.get("/ready") == 503)
        health = web.get("/health")
        status = web.wait()

    sent_before = [each for each in load.attempts if each.sent_at < drained_until]
    assert status == 0
    assert health == 200
    assert {each.status for each in sent_before} == {201}
    assert len(sent_before) > before  # some came while it drained


def test_idle_connections_are_served_until_the_drain_ends(deployment):
    web = deployment.web(DRAIN_SECONDS=str(DRAIN_SECONDS))
    web.await_ready()

    with httpx2.Client(base_url=web.url) as client:
        first = client.post("/users", json=ADA)
        web.send(signal.SIGTERM)
        eventually(lambda: web.get("/ready") == 503)
        second = client.get("/health")
        status = web.wait()

    assert (first.status_code, second.status_code) == (201, 200)
    assert status == 0


def test_when_the_drain_ends_who_is_in_flight_is_answered_and_who_comes_is_refused(
    deployment, postgresql_server
):
    web = deployment.web(DRAIN_SECONDS="0", **ENDLESS)
    web.await_ready()

    with ThreadPoolExecutor(1) as caller:
        with locked("users", postgresql_server.url):
            waiting = caller.submit(
                httpx2.post, f"{web.url}/users", json=ADA, timeout=DEADLINE_SECONDS
            )
            eventually(lambda: is_locked_out(postgresql_server.url))
            web.send(signal.SIGTERM)
            eventually(lambda: web.logged("Stopped: drain"))
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((HOST, web.port))
        answer = waiting.result()

    assert answer.status_code == 201
    assert web.wait() == 0


def test_a_request_that_was_sent_slowly_is_answered_after_the_drain(deployment):
    web = deployment.web(DRAIN_SECONDS="0", REQUEST_READ_SECONDS="600", **ENDLESS)
    web.await_ready()

    with socket.create_connection((HOST, web.port)) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: test\r\n")
        eventually(lambda: web.get("/health") == 200)  # the first is in the same loop by now
        web.send(signal.SIGTERM)
        eventually(lambda: web.logged("Stopped: drain"))
        connection.sendall(b"Connection: close\r\n\r\n")
        answer = connection.recv(1000)

    assert answer.startswith(b"HTTP/1.1 200 ")
    assert web.wait() == 0


def test_the_phases_of_the_stop_are_logged_and_fit_into_the_grace_period(deployment):
    # One process, since the lines of several come in any order.
    web = deployment.web(DRAIN_SECONDS="1", TERMINATION_GRACE_SECONDS=f"{ANSWER_SECONDS:.0f}")
    web.await_ready()

    with registering(web.url):
        status, seconds = web.stop()

    phases = ["requests", "backing_services", "telemetry"]
    order = [web.output.index(f"Stopped: {phase}") for phase in ("drain", *phases)]
    assert status == 0
    assert order == sorted(order)
    assert seconds_of(web, "drain") >= 1
    assert sum(seconds_of(web, phase) for phase in phases) < ANSWER_SECONDS
    assert seconds < ANSWER_SECONDS


def test_the_phases_of_a_workers_stop_are_logged_telemetry_last(deployment):
    worker = deployment.worker()
    worker.await_ready()

    status, _ = worker.stop()

    order = [line["message"].removeprefix("Stopped: ") for line in worker.logged("Stopped: ")]
    assert status == 0
    assert order == ["delivery", "pools", "services", "telemetry"]


def test_the_master_ends_its_workers_before_the_platform_ends_the_master():
    settings = processes.run(sys.executable, "-c", SETTINGS)
    graceful, grace = map(float, settings.stdout.split())

    assert 0 < graceful < grace


def test_the_stop_ends_in_time_although_a_request_does_not(deployment, postgresql_server):
    web = deployment.web(
        DRAIN_SECONDS="1",
        TERMINATION_GRACE_SECONDS="10",
        DATABASE_STATEMENT_TIMEOUT_SECONDS="3600",
    )
    web.await_ready()

    with locked("users", postgresql_server.url), ThreadPoolExecutor(1) as caller:
        caller.submit(httpx2.post, f"{web.url}/users", json=ADA, timeout=DEADLINE_SECONDS)
        eventually(lambda: is_locked_out(postgresql_server.url))
        _, seconds = web.stop()

    assert seconds < ANSWER_SECONDS


def test_a_worker_ends_in_time_although_the_database_does_not_answer(deployment, postgresql_server):
    worker = deployment.worker(
        TERMINATION_GRACE_SECONDS="10", DATABASE_STATEMENT_TIMEOUT_SECONDS="3600"
    )
    worker.await_ready()

    with locked("outbox_messages", postgresql_server.url):
        eventually(lambda: is_locked_out(postgresql_server.url))
        status, seconds = worker.stop()

    assert status == 1
    assert seconds < ANSWER_SECONDS


def test_a_drain_of_no_seconds_ends_at_once(deployment):
    web = deployment.web(DRAIN_SECONDS="0", **ENDLESS)
    web.await_ready()

    status, _ = web.stop()

    assert status == 0


def test_a_second_signal_ends_the_drain_now(deployment):
    web = deployment.web(DRAIN_SECONDS="600", **ENDLESS)
    web.await_ready()
    children = web.children

    web.send(signal.SIGTERM)
    eventually(lambda: web.get("/ready") == 503)
    status, _ = web.stop()

    assert status == 1
    eventually(lambda: not any(is_running(pid) for pid in children))


def test_ctrl_c_does_not_wait_for_the_drain(deployment):
    web = deployment.web(DRAIN_SECONDS="600", **ENDLESS)
    web.await_ready()

    os.killpg(web.process.pid, signal.SIGINT)  # a terminal tells all processes

    assert web.wait() == 0


@pytest.mark.parametrize("kind", ["web", "worker"])
def test_the_first_process_of_a_container_stops_like_any_other(deployment, kind):
    if os.geteuid() != 0 or not shutil.which("unshare"):
        pytest.skip("a namespace of processes needs root and unshare")
    if subprocess.run([*NAMESPACE, "true"], check=False, stderr=subprocess.DEVNULL).returncode:
        pytest.skip("this machine allows no namespace of processes")
    process = getattr(deployment, kind)(before=NAMESPACE, DRAIN_SECONDS="1")
    process.await_ready()

    os.kill(process.children[0], signal.SIGTERM)

    assert process.wait() == 0
    assert process.logged("Stopped: ")


def is_locked_out(database_url):
    engine = create_engine(with_driver(database_url))
    with engine.connect() as connection:
        waiting = connection.scalar(
            text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
        )
    engine.dispose()
    return waiting


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
