from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import timedelta

import psutil
import pytest
from flask import Flask
from opentelemetry import baggage, context, trace
from prometheus_client import REGISTRY

from chassis.background.pools import Pool, PoolFull
from chassis.background.processes import ProcessPool, TaskKilled
from chassis.http.problem import register_error_handlers
from chassis.tasks import InlineTasks
from chassis.telemetry import tracing
from chassis.telemetry.log_fields import log_fields
from config import AppConfig
from tests.support import pooled
from tests.support.processes import ROOT
from tests.support.waiting import DEADLINE_SECONDS, eventually
from workers import QUEUED_PER_SLOT, WorkerManager

TRACE_ID = 0x4BF92F3577B34DA6A3CE929D0E0E4736
DURATION = "worker_pool_task_duration_seconds_count"


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
    return gate.wait(DEADLINE_SECONDS)


def test_cpu_tasks_run_in_other_processes_and_io_tasks_in_other_threads(manager):
    process = manager.submit_cpu_task(os.getpid).result(timeout=DEADLINE_SECONDS)
    thread = manager.submit_io_task(threading.get_ident).result(timeout=DEADLINE_SECONDS)

    assert process != os.getpid()
    assert thread != threading.get_ident()


POOLED = """
import os, time
from config import AppConfig
from workers import WorkerManager

if __name__ == "__main__":
    manager = WorkerManager(AppConfig(redis_url="", worker_concurrency=1))
    print(manager.submit_cpu_task(os.getpid).result(), flush=True)
    manager.submit_cpu_task(time.sleep, 3600).result()
"""


@pytest.mark.integration
def test_a_process_of_the_pool_ends_with_its_parent_even_when_that_is_killed(tmp_path):
    script = tmp_path / "pooled.py"
    script.write_text(POOLED)
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    parent = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, env=variables, text=True
    )
    assert parent.stdout is not None
    with parent.stdout:
        child = int(parent.stdout.readline())

    parent.kill()
    parent.wait()

    eventually(lambda: not is_running(child))


def is_running(pid):
    """Tell whether a process runs; one that ended and was not waited for does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Hesitant(Pool):
    """Cannot work on its first task, as when no process can be started."""

    failures = 1

    def slot(self):
        if self.failures:
            self.failures -= 1
            raise OSError("no more processes")
        return super().slot()


def test_a_thread_that_cannot_begin_says_so_and_serves_the_next_task(caplog):
    pool = Hesitant("test", size=1, capacity=2)

    with pytest.raises(OSError, match="no more processes"):
        pool.submit(math.sqrt, 4).result(DEADLINE_SECONDS)
    root = pool.submit(math.sqrt, 4).result(DEADLINE_SECONDS)

    assert root == 2
    assert "Thread broke" in caplog.text
    pool.close(time.monotonic())


def test_ctrl_c_at_a_terminal_ends_no_task(manager):
    assert manager.submit_cpu_task(pooled.interrupt).result(DEADLINE_SECONDS) == "went on"


def test_a_process_of_the_pool_traces_as_its_parent_does():
    config = AppConfig(redis_url="", worker_concurrency=1, telemetry_pii=True)
    manager = WorkerManager(config)

    personal = manager.submit_cpu_task(tracing.is_personal_data_allowed).result(DEADLINE_SECONDS)
    manager.shutdown(timedelta(0))

    assert personal is True
    assert tracing.is_personal_data_allowed() is False


def test_what_a_task_raises_reaches_whoever_waits_for_it(manager):
    with pytest.raises(ValueError, match="math domain"):
        manager.submit_cpu_task(math.sqrt, -1).result(timeout=DEADLINE_SECONDS)
    with pytest.raises(ValueError, match="math domain"):
        manager.submit_io_task(math.sqrt, -1).result(timeout=DEADLINE_SECONDS)


def test_a_task_that_kills_its_process_harms_no_other(manager):
    before = [manager.submit_cpu_task(math.factorial, 5) for _ in range(4)]
    killer = manager.submit_cpu_task(os._exit, 3)
    after = [manager.submit_cpu_task(math.factorial, 6) for _ in range(4)]

    with pytest.raises(TaskKilled):
        killer.result(timeout=DEADLINE_SECONDS)
    assert [each.result(timeout=DEADLINE_SECONDS) for each in before] == [120] * 4
    assert [each.result(timeout=DEADLINE_SECONDS) for each in after] == [720] * 4


def test_the_trace_and_the_log_fields_travel_into_both_pools(manager):
    span = trace.SpanContext(TRACE_ID, 1, is_remote=False, trace_flags=trace.TraceFlags(1))
    around = trace.set_span_in_context(trace.NonRecordingSpan(span))
    token = context.attach(baggage.set_baggage("user.signup_source", "web", around))
    fields = log_fields.set({"request_id": "r1"})

    in_process = manager.submit_cpu_task(pooled.surroundings).result(timeout=DEADLINE_SECONDS)
    in_thread = manager.submit_io_task(pooled.surroundings).result(timeout=DEADLINE_SECONDS)
    log_fields.reset(fields)
    context.detach(token)

    expected = (TRACE_ID, {"user.signup_source": "web"}, {"request_id": "r1"})
    assert in_process == in_thread == expected


def test_processes_are_not_forked_from_here_where_threads_run(manager):
    parent = manager.submit_cpu_task(os.getppid).result(timeout=DEADLINE_SECONDS)

    assert parent != os.getpid()


def test_there_are_as_many_processes_as_configured_and_four_times_as_many_threads(
    manager, tmp_path
):
    barrier = threading.Barrier(4 * 2)

    processes = [manager.submit_cpu_task(pooled.meet, tmp_path, 2) for _ in range(2)]
    threads = [manager.submit_io_task(barrier.wait, DEADLINE_SECONDS) for _ in range(4 * 2)]

    assert len({each.result(timeout=DEADLINE_SECONDS) for each in processes}) == 2
    assert sorted(each.result(timeout=DEADLINE_SECONDS) for each in threads) == [*range(4 * 2)]


def test_the_queue_of_a_pool_is_bounded(manager):
    gate, started = threading.Event(), threading.Semaphore(0)

    def hold():
        started.release()
        return gate.wait(DEADLINE_SECONDS)

    running = [manager.submit_io_task(hold) for _ in range(8)]
    for _ in running:
        assert started.acquire(timeout=DEADLINE_SECONDS)
    waiting = [manager.submit_io_task(int) for _ in range(8 * QUEUED_PER_SLOT)]

    with pytest.raises(PoolFull):
        manager.submit_io_task(int)

    gate.set()
    assert [each.result(timeout=DEADLINE_SECONDS) for each in waiting] == [0] * len(waiting)


def test_a_process_that_died_idle_fails_no_task():
    pool = ProcessPool("test", size=1, capacity=1)
    first = pool.submit(os.getpid).result(timeout=DEADLINE_SECONDS)
    (executor,) = pool._executors  # noqa: SLF001 - nothing else tells that its end was noticed

    os.kill(first, signal.SIGKILL)
    eventually(lambda: executor._broken)  # noqa: SLF001
    second = pool.submit(os.getpid).result(timeout=DEADLINE_SECONDS)
    pool.close(time.monotonic())

    assert second != first


def test_a_pool_that_is_full_is_503_to_whoever_asks(threads):
    app = Flask("test")
    register_error_handlers(app)
    gate, started = threading.Event(), threading.Event()
    threads.submit(hold, started, gate)
    assert started.wait(50)

    @app.get("/")
    def submit():
        threads.submit(int)
        return "queued"

    answers = [app.test_client().get("/") for _ in range(3)]
    gate.set()

    assert [each.status_code for each in answers] == [200, 200, 503]
    assert answers[2].headers["Retry-After"]
    assert "Too many tasks are waiting" in answers[2].text


def measured(name, **labels):
    return REGISTRY.get_sample_value(name, {"pool": "test"} | labels) or 0


def count_tasks():
    """Return how many tasks waited, how many succeeded, and how many failed."""
    waits = measured("worker_pool_wait_seconds_count")
    return waits, measured(DURATION, result="success"), measured(DURATION, result="error")


def test_what_pools_do_is_measured(threads):
    gate, started = threading.Event(), threading.Event()
    waited, succeeded, failed = count_tasks()

    running = threads.submit(hold, started, gate)
    assert started.wait(50)
    failing = threads.submit(math.sqrt, -1)
    depth = measured("worker_pool_queue_depth")
    gate.set()
    running.result(timeout=DEADLINE_SECONDS)
    assert failing.exception(timeout=DEADLINE_SECONDS)

    assert depth == 1
    eventually(lambda: count_tasks() == (waited + 2, succeeded + 1, failed + 1))
    eventually(lambda: measured("worker_pool_queue_depth") == 0)


def test_a_pool_refuses_instead_of_growing(threads):
    gate = threading.Event()
    started = threading.Event()
    running = threads.submit(hold, started, gate)
    assert started.wait(50)
    waiting = [threads.submit(int), threads.submit(int)]

    with pytest.raises(PoolFull):
        threads.submit(int)

    gate.set()
    assert running.result(timeout=DEADLINE_SECONDS) is True
    assert [each.result(timeout=DEADLINE_SECONDS) for each in waiting] == [0, 0]


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
    pool.submit(int).result(timeout=DEADLINE_SECONDS)
    busy = pool.submit(time.sleep, 600)
    eventually(busy.running)

    pool.close(time.monotonic())

    assert isinstance(busy.exception(timeout=DEADLINE_SECONDS), TaskKilled)


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
