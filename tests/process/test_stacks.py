"""Stacks of all threads: on a signal, and of a process that is aborted; no values among them."""

from __future__ import annotations

import os
import re
import signal
import sys

from tests.support.processes import run
from tests.support.waiting import eventually

SECRET = "a-secret-that-no-stack-shows-0123"
PLACE = re.compile(r'  File "[^"]+", line (\d+|\?\?\?) in \S+')
OTHER = re.compile(
    r"|Stacks of process \d+:|(Current thread|Thread) 0x[0-9a-f]+.*"
    r"|Fatal Python error: Aborted|Extension modules: .*"
    r"|Current thread's C stack trace .*|  Binary file .*|  <.*>"  # from Python 3.14 on
)
HANGING = """
import os, signal, sys, threading
from chassis.process import stacks

stacks.write_on_signal()
lock = threading.Lock()
lock.acquire()
threading.Thread(target=lock.acquire, daemon=True).start()
os.kill(os.getpid(), stacks.SIGNAL)
print("goes on")
"""


def unknown(text):
    """Return lines that are neither places in the code nor headings."""
    lines = text.splitlines()
    return [line for line in lines if not PLACE.fullmatch(line) and not OTHER.fullmatch(line)]


def test_a_signal_has_the_master_and_its_workers_write_one_after_the_other(serve):
    service = serve(WEB_CONCURRENCY="2", JWT_SECRET=SECRET)
    processes = [service.process.pid, *service.workers]

    service.process.send_signal(signal.SIGUSR2)
    eventually(lambda: service.errors.count("Current thread") == len(processes))
    service.client.get("/nope")
    service.stop()

    headings = re.findall(r"^Stacks of process (\d+):$", service.errors, re.MULTILINE)
    assert [int(each) for each in headings] == processes
    assert service.errors.count("in _do_tasks") >= 16 + 4  # WEB_THREADS, and spare ones
    assert unknown(service.errors) == []
    assert SECRET not in service.errors
    assert service.workers == []
    assert len(service.lines) == len(service.output.splitlines())  # JSON, all of them


def test_no_second_master_is_started(serve):
    service = serve()

    service.process.send_signal(signal.SIGUSR2)
    eventually(lambda: "in run_forever" in service.errors)

    assert len(service.workers) == 1


def test_the_worker_writes_its_stacks_and_goes_on(deployment):
    worker = deployment.worker(JWT_SECRET=SECRET)
    worker.await_ready()

    worker.send(signal.SIGUSR2)
    eventually(lambda: "in run_worker" in worker.output)

    assert "in _watch" in worker.output
    assert SECRET not in worker.output
    assert worker.stop()[0] == 0


def test_a_worker_that_is_aborted_because_it_hangs_says_where(serve):
    service = serve()
    (first,) = service.workers

    os.kill(first, signal.SIGABRT)  # as gunicorn does when no heartbeat comes
    eventually(lambda: service.workers not in ([first], []))
    eventually(lambda: service.client.get("/health").status_code == 200)

    assert "Fatal Python error: Aborted" in service.errors
    assert "in run_forever" in service.errors
    assert unknown(service.errors) == []


def test_threads_that_hang_are_among_them():
    result = run(sys.executable, "-c", HANGING)

    assert (result.returncode, result.stdout) == (0, "goes on\n")
    assert len(re.findall(r"hread 0x", result.stderr)) == 2


def test_without_a_stderr_the_signal_is_ignored():
    program = f"exec 2>&-; exec {sys.executable} -c '{HANGING}'"

    result = run("sh", "-c", program)

    assert (result.returncode, result.stdout) == (0, "goes on\n")
