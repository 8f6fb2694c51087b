"""Stacks of all threads: on a signal, and of a process that is aborted; no values among them."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from healthcheck import is_healthy
from tests.support.pipes import full_pipe
from tests.support.ports import family, free_port
from tests.support.processes import APP, finish, run, start
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
sys.stdin.read()
print("goes on")
"""
POOLED = """
import os, signal, sys
import psutil
from config import AppConfig
from workers import WorkerManager

if __name__ == "__main__":
    tasks = WorkerManager(AppConfig(redis_url="", worker_concurrency=1))
    first = tasks.submit_cpu_task(os.getpid).result()
    for process in psutil.Process().children(recursive=True):
        process.send_signal(int(sys.argv[1]))
    second = tasks.submit_cpu_task(os.getpid).result()
    tasks.submit_cpu_task(abs, -1).result()
    print(tasks.submit_cpu_task(abs, -1).result(), first == second, flush=True)
    os._exit(0)
"""
BUSY = """
import os, threading
from chassis.process import stacks

def call(depth):
    return call(depth - 1) if depth else 0

def work():
    while True:
        call(50)

stacks.write_on_signal()
for _ in range(4):
    threading.Thread(target=work, daemon=True).start()
for _ in range(20_000):
    os.kill(os.getpid(), stacks.SIGNAL)
os.write(1, b"goes on")
os._exit(0)
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


def test_threads_that_hang_are_among_them(tmp_path):
    file = tmp_path / "stderr"
    with file.open("w") as stderr:
        process = start(sys.executable, "-c", HANGING, stderr=stderr)

    eventually(lambda: len(re.findall(r"hread 0x", file.read_text())) == 3)  # and that which writes
    result = finish(process)

    assert (result.returncode, result.stdout) == (0, "goes on\n")


def test_without_a_stderr_the_signal_is_ignored():
    program = f"exec 2>&-; exec {sys.executable} -c '{HANGING}'"

    result = run("sh", "-c", program)

    assert (result.returncode, result.stdout) == (0, "goes on\n")


def test_threads_that_run_meanwhile_are_not_read_while_they_change():
    """A handler that reads them within the signal ends the process by SIGSEGV or SIGBUS."""
    result = run(sys.executable, "-c", BUSY, stderr=subprocess.DEVNULL)

    assert (result.returncode, result.stdout) == (0, "goes on")


@pytest.mark.parametrize("command", [(), ("worker",)], ids=["web", "worker"])
def test_a_stderr_that_nobody_reads_holds_no_process_up(command, migrated_sqlite, tmp_path):
    variables = {
        "DATABASE_URL": f"sqlite:///{shutil.copy(migrated_sqlite, tmp_path)}",
        "REDIS_URL": "",
        "DELIVER_IN_WEB": "false",
        "WEB_CONCURRENCY": "1",
        "PORT": str(free_port()),
        "WORKER_METRICS_PORT": str(free_port()),
    }
    port = variables["WORKER_METRICS_PORT" if command else "PORT"]
    reader, writer = full_pipe()
    process = start(*APP, *command, variables=variables, stderr=writer)
    eventually(lambda: is_healthy(int(port)))

    process.send_signal(signal.SIGUSR2)
    eventually(lambda: not any(is_pending(each) for each in family(process.pid)))
    is_alive = is_healthy(int(port))
    process.terminate()
    result = finish(process)
    os.close(reader)
    os.close(writer)

    assert is_alive
    assert result.returncode == 0


def is_pending(pid):
    """Tell whether a process has not yet taken SIGUSR2 in."""
    status = Path(f"/proc/{pid}/status").read_text()
    masks = re.findall(r"(?:Sig|Shd)Pnd:\s*(\w+)", status)
    return any(int(mask, 16) & 1 << (signal.SIGUSR2 - 1) for mask in masks)


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2])
def test_processes_of_a_pool_and_their_server_survive_the_signals(number):
    result = run(sys.executable, "-c", POOLED, str(number.value))

    assert (result.returncode, result.stdout) == (0, "1 True\n")
