from __future__ import annotations

import math
import os
import threading
import time
from datetime import timedelta

import pytest
from opentelemetry import baggage, context

from config import AppConfig
from tests import pooled
from userservice.pools import InlineTasks, Pool, PoolFull, ProcessPool, TaskKilled
from userservice.tracing import log_fields
from workers import WorkerManager


@pytest.fixture
def manager():
    running = WorkerManager(AppConfig(redis_url="", worker_concurrency=2))
    yield running
    running.shutdown(timedelta(0))


@pytest.fixture
def threads():
    pool = Pool("test", size=1, capacity=2)
    yield pool
    pool.close(time.monotonic())


def hold(started, gate):
    started.set()
    return gate.wait(50)


def test_cpu_tasks_run_in_other_processes_and_io_tasks_in_other_threads(manager):
    process = manager.submit_cpu_task(os.getpid).result(timeout=50)
    thread = manager.submit_io_task(threading.get_ident).result(timeout=50)

    assert process != os.getpid()
    assert thread != threading.get_ident()


def test_what_a_task_raises_reaches_whoever_waits_for_it(manager):
    with pytest.raises(ValueError, match="math domain"):
        manager.submit_cpu_task(math.sqrt, -1).result(timeout=50)
    with pytest.raises(ValueError, match="math domain"):
        manager.submit_io_task(math.sqrt, -1).result(timeout=50)


def test_a_task_that_kills_its_process_harms_no_other(manager):
    before = [manager.submit_cpu_task(math.factorial, 5) for _ in range(4)]
    killer = manager.submit_cpu_task(os._exit, 3)
    after = [manager.submit_cpu_task(math.factorial, 6) for _ in range(4)]

    with pytest.raises(TaskKilled):
        killer.result(timeout=50)
    assert [each.result(timeout=50) for each in before] == [120] * 4
    assert [each.result(timeout=50) for each in after] == [720] * 4


def test_the_trace_and_the_log_fields_travel_into_both_pools(manager):
    token = context.attach(baggage.set_baggage("user.signup_source", "web"))
    fields = log_fields.set({"request_id": "r1"})

    in_process = manager.submit_cpu_task(pooled.surroundings).result(timeout=50)
    in_thread = manager.submit_io_task(pooled.surroundings).result(timeout=50)
    log_fields.reset(fields)
    context.detach(token)

    assert in_process == in_thread == ({"user.signup_source": "web"}, {"request_id": "r1"})


def test_a_pool_refuses_instead_of_growing(threads):
    gate = threading.Event()
    started = threading.Event()
    running = threads.submit(hold, started, gate)
    assert started.wait(50)
    waiting = [threads.submit(int), threads.submit(int)]

    with pytest.raises(PoolFull):
        threads.submit(int)

    gate.set()
    assert running.result(timeout=50) is True
    assert [each.result(timeout=50) for each in waiting] == [0, 0]


def test_a_closed_pool_takes_no_tasks_and_cancels_those_that_wait(threads):
    gate = threading.Event()
    started = threading.Event()
    threads.submit(hold, started, gate)
    assert started.wait(50)
    waiting = threads.submit(int)

    cancelled = threads.close(time.monotonic())

    gate.set()
    assert cancelled == 1
    assert waiting.cancelled()
    with pytest.raises(PoolFull):
        threads.submit(int)


def test_closing_waits_for_what_gets_done_in_time(threads):
    tasks = [threads.submit(int), threads.submit(int)]

    cancelled = threads.close(time.monotonic() + 50)

    assert cancelled == 0
    assert [each.result(timeout=0) for each in tasks] == [0, 0]


def test_closing_ends_a_process_that_is_busy():
    pool = ProcessPool("test", size=1, capacity=1)
    pool.submit(int).result(timeout=50)
    busy = pool.submit(time.sleep, 600)
    deadline = time.monotonic() + 50
    while not busy.running() and time.monotonic() < deadline:
        time.sleep(0.01)

    pool.close(time.monotonic())

    assert isinstance(busy.exception(timeout=50), TaskKilled)


def test_nothing_is_started_before_the_first_task():
    before = threading.active_count()

    manager = WorkerManager(AppConfig(redis_url=""))

    assert threading.active_count() == before
    assert manager.shutdown(timedelta(0)) == 0


def test_without_pools_tasks_run_where_they_are_submitted():
    tasks = InlineTasks()

    assert tasks.submit_cpu_task(threading.get_ident).result() == threading.get_ident()
    with pytest.raises(ValueError, match="math domain"):
        tasks.submit_io_task(math.sqrt, -1).result()
