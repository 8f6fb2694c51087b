"""Log lines without a reader: requests go on, and the lines are counted."""

from __future__ import annotations

import io
import json
import logging
import os
import pty
import signal
import subprocess
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Thread

import pytest
from prometheus_client import REGISTRY

from chassis.telemetry.log_output import LineHandler
from tests.support.ports import free_port, is_served_by
from tests.support.processes import APP, environment
from tests.support.serving import Service, is_serving
from tests.support.waiting import DEADLINE_SECONDS, eventually

LINE = "x" * 200
PIPE_BYTES = 65_536  # the kernel's default
# More than a pipe, a terminal and a socket hold together with what is on its way.
MANY = 20_000


def record(message=LINE):
    return logging.makeLogRecord({"msg": message})


def dropped_lines():
    """Return how many lines this process has dropped."""
    return REGISTRY.get_sample_value("log_lines_dropped_total") or 0


def in_time(function):
    """Run a function that may hang, and fail when it does."""
    thread = Thread(target=function, daemon=True)
    thread.start()
    thread.join(DEADLINE_SECONDS)
    assert not thread.is_alive()


def read_all(descriptor):
    """Return what can be read at once."""
    os.set_blocking(descriptor, False)
    parts = []
    try:
        while part := os.read(descriptor, PIPE_BYTES):
            parts.append(part)
    except BlockingIOError:
        pass
    return b"".join(parts).decode()


@contextmanager
def pipe(open_both=os.pipe):
    reader, writer = open_both()
    with os.fdopen(writer, "w") as stream:
        yield reader, stream
    os.close(reader)


terminal = partial(pipe, pty.openpty)


@contextmanager
def refusing_pipe():
    """A pipe that this process may not open again, as one of another user."""
    opened = os.open

    def refuse(path, *arguments):
        if str(path).startswith("/proc/self/fd/"):
            raise PermissionError
        return opened(path, *arguments)

    with pipe() as both, pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "open", refuse)
        yield both


@pytest.mark.parametrize(
    "opened", [pipe, terminal, refusing_pipe], ids=["pipe", "terminal", "refusing_pipe"]
)
def test_lines_without_a_reader_are_dropped_and_told_of(opened):
    before = dropped_lines()
    with opened() as (reader, stream):
        handler = LineHandler(stream)

        def write_many():
            for _ in range(MANY):
                handler.handle(record())

        in_time(write_many)
        held = read_all(reader).replace("\r", "")
        dropped = int(dropped_lines() - before)
        root = logging.getLogger()
        others, root.handlers[:] = root.handlers[:], [handler]
        try:
            handler.handle(record("there is room again"))
        finally:
            root.handlers[:] = others
        handler.close()
        lines = read_all(reader).replace("\r", "").splitlines()

    assert held.count(LINE + "\n") + dropped == MANY
    assert 0 < dropped < MANY
    assert lines[-2:] == ["there is room again", "Log lines had no reader and were dropped"]


def test_a_line_that_found_room_for_its_beginning_does_not_swallow_the_next():
    with pipe() as (reader, stream):
        handler = LineHandler(stream)
        handler.handle(record("y" * 2 * PIPE_BYTES))
        begun = read_all(reader)
        handler.handle(record("whole"))
        handler.close()
        lines = (begun + read_all(reader)).splitlines()

    assert "whole" in lines


def test_the_stream_of_others_goes_on_to_wait():
    with pipe() as (_, stream):
        handler = LineHandler(stream)
        is_blocking = os.get_blocking(stream.fileno())
        handler.close()

    assert is_blocking


def test_a_stream_in_memory_holds_the_lines():
    stream = io.StringIO()
    LineHandler(stream).handle(record("Zoë \udc80"))

    assert stream.getvalue() == "Zoë \\udc80\n"


def test_a_reader_that_is_busy_for_a_moment_gets_all_lines():
    with pipe() as (reader, stream):
        handler = LineHandler(stream)
        found: list[str] = []

        def read():
            with os.fdopen(os.dup(reader)) as lines:
                found.extend(lines)

        thread = Thread(target=read)
        thread.start()
        for number in range(MANY):
            handler.handle(record(f"{number} {LINE}"))
        handler.close()
        stream.close()
        thread.join(DEADLINE_SECONDS)

    numbers = [int(line.split()[0]) for line in found if LINE in line]
    assert numbers == list(range(MANY))


@pytest.fixture
def fifo(tmp_path):
    """A named pipe that is open for reading, and read by nobody yet."""
    path = tmp_path / "log"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    yield reader, path
    os.close(reader)


def test_a_service_whose_log_nobody_reads_answers_all(tmp_path, sqlite_url, fifo):
    reader, path = fifo
    variables = {"DATABASE_URL": sqlite_url, "WEB_CONCURRENCY": "2"}
    with path.open("wb") as output:
        service = Service(tmp_path, variables, output=output)
    try:
        eventually(lambda: is_serving(service))
        statuses = [service.client.get("/nowhere").status_code for _ in range(1500)]
        dropped = service.total("log_lines_dropped_total")
        read_all(reader)
        service.client.get("/nowhere")
        told = [json.loads(line) for line in read_all(reader).splitlines()]
    finally:
        service.close()

    assert statuses == [404] * 1500
    assert dropped > 0
    assert any("dropped" in line["message"] and line["lines"] > 0 for line in told)


@pytest.fixture(params=["full disk", "no reader", "closed"])
def dead(request):
    """A stdout that takes nothing."""
    if request.param == "full disk":
        with Path("/dev/full").open("wb") as output:
            yield output
    elif request.param == "no reader":
        reader, writer = os.pipe()
        os.close(reader)
        with os.fdopen(writer, "wb") as output:
            yield output
    else:
        yield None


# A shell that closes the stdout of the program that it becomes.
CLOSING = ("sh", "-c", 'exec "$@" >&-', "sh")


def test_a_web_process_with_a_dead_stdout_serves_and_ends_well(tmp_path, sqlite_url, dead):
    service = Service(
        tmp_path, {"DATABASE_URL": sqlite_url}, output=dead, before=() if dead else CLOSING
    )
    try:
        eventually(lambda: is_serving(service))
        status = service.client.get("/nowhere").status_code
        service.stop()
    finally:
        service.close()

    assert (status, service.process.returncode, service.errors) == (404, 0, "")


def test_a_worker_with_a_dead_stdout_ends_well(dead, postgresql_url):
    port = free_port()
    variables = {"DATABASE_URL": postgresql_url, "WORKER_METRICS_PORT": str(port)}
    worker = subprocess.Popen(
        [*(() if dead else CLOSING), *APP, "worker"],
        env=environment(variables),
        stdout=dead,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        eventually(lambda: is_served_by(worker.pid, port))
        worker.send_signal(signal.SIGTERM)
        errors = worker.communicate(timeout=DEADLINE_SECONDS)[1]
    finally:
        worker.kill()

    assert (worker.returncode, errors) == (0, "")
