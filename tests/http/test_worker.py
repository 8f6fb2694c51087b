"""A worker's life: how it ends, is replaced, and what of gunicorn it uses."""

from __future__ import annotations

import ast
import asyncio
import os
import signal
import socket
import threading
import time
from contextlib import suppress
from typing import Any

import httptools
import psutil
import pytest
from gunicorn.arbiter import Arbiter
from gunicorn.config import Config
from gunicorn.workers.base import Worker as BaseWorker

from chassis.http.worker import Worker
from tests.http.harness import ROOT, read_to_end, request, serving

CLOSE = request("/", "Connection: close")
# A stop of the whole service, as the master announces it, and not of one worker.
ALL_STOP = ("from chassis.http import balance", "balance.announce_stop()")
# Files that use gunicorn, asyncio or httptools, or hand something to those that do.
SERVING = (
    *("answer", "balance", "connection", "entrance", "head", "link", "pace", "reader"),
    *("request", "upload", "wire", "worker"),
)
FILES = [
    *(ROOT / "chassis" / "http" / f"{name}.py" for name in SERVING),
    ROOT / "gunicorn.conf.py",
]
OWN = {"self", "cls", "balance"}


def attributes(file):
    tree = ast.parse(file.read_text())
    return [each for each in ast.walk(tree) if isinstance(each, ast.Attribute)]


def name_of(node):
    return node.id if isinstance(node, ast.Name) else ""


@pytest.mark.parametrize("file", FILES, ids=lambda each: each.name)
def test_no_private_name_of_a_library_is_used(file):
    used = [
        f"{name_of(each.value)}.{each.attr}"
        for each in attributes(file)
        if each.attr.startswith("_")
        and not each.attr.endswith("__")
        and name_of(each.value) not in OWN
    ]

    assert set(used) <= {"os._exit"}  # which has a line in Python's documentation


def test_no_name_of_a_base_is_overridden_in_private():
    own = {name for name in vars(Worker) if name.startswith("_") and not name.endswith("__")}

    assert not own & set(dir(BaseWorker))


def test_nothing_of_a_library_is_replaced():
    for file in FILES:
        tree = ast.parse(file.read_text())
        modules = {
            alias.asname or alias.name.partition(".")[0]
            for each in ast.walk(tree)
            if isinstance(each, ast.Import | ast.ImportFrom)
            for alias in each.names
        } - {"Worker"}
        targets = [
            name_of(target.value)
            for each in ast.walk(tree)
            if isinstance(each, ast.Assign)
            for target in each.targets
            if isinstance(target, ast.Attribute)
        ]
        assert not set(targets) & modules, file.name


def test_gunicorn_has_all_that_is_used_of_it():
    tree = ast.parse((ROOT / "chassis/http/worker.py").read_text())
    ours = {each.attr for each in ast.walk(tree) if isinstance(each, ast.Attribute)
            and isinstance(each.ctx, ast.Store)} | set(vars(Worker))  # fmt: skip
    used = {each.attr for each in attributes(ROOT / "chassis/http/worker.py")
            if name_of(each.value) == "self"} - ours  # fmt: skip
    settings = {
        each.attr
        for file in FILES
        for each in attributes(file)
        if isinstance(each.value, ast.Attribute) and each.value.attr == "cfg"
    }
    config = Config()
    config.set("worker_tmp_dir", "/dev/shm")
    base = BaseWorker(1, 1, [], None, 30, config, None)
    base.tmp.close()

    assert used - {"wsgi"} <= set(dir(base))  # which is there when the application is loaded
    assert {"log", "ppid", "notify", "sockets", "wsgi"} <= used
    assert settings <= {*config.settings, *dir(Config)}


@pytest.fixture
def worker() -> Any:
    """A worker with two threads, that does not run."""
    config = Config()
    config.set("threads", 2)
    config.set("worker_tmp_dir", "/dev/shm")
    made = Worker(1, 1, [], None, 30, config, None)
    made.tmp.close()
    return made


def test_ctrl_c_that_comes_twice_does_not_break_off_what_follows_the_first(worker):
    with pytest.raises(SystemExit):
        worker.handle_quit(signal.SIGINT, None)

    worker.handle_quit(signal.SIGINT, None)  # the master's, while the worker closes its resources

    assert worker.is_stopping


@pytest.mark.parametrize(("connections", "has_some"), [(1, True), (2, False), (3, False)])
def test_a_thread_waits_at_a_connection_while_each_has_one(worker, connections, has_some):
    worker.connections.update(range(connections))

    assert worker.has_threads_to_spare() is has_some


def test_gunicorn_knows_each_setting_of_ours():
    tree = ast.parse((ROOT / "gunicorn.conf.py").read_text())
    names = {
        target.id
        for each in tree.body
        if isinstance(each, ast.Assign)
        for target in each.targets
        if isinstance(target, ast.Name)
    } - {"app_config", "are_counts_shared", "SPARE_THREADS"}

    assert names <= set(Config().settings)
    assert hasattr(Arbiter, "kill_workers")


def test_the_parser_is_as_strict_as_it_comes():
    for file in FILES:
        assert "leniencies" not in file.read_text()
    assert hasattr(httptools.HttpRequestParser, "set_dangerous_leniencies")
    assert hasattr(asyncio.AbstractEventLoop, "add_reader")


def test_a_worker_that_has_served_enough_is_replaced_and_nothing_lost():
    with serving(max_requests=5) as web:
        answers = [web.ask(request("/number", "Connection: close")) for _ in range(30)]

    numbers = {each.rpartition(b"\r\n\r\n")[2] for each in answers}
    assert all(each.startswith(b"HTTP/1.1 200 ") for each in answers)
    assert len(numbers) > 3


def test_each_answer_of_a_stopping_worker_says_that_it_closes():
    with serving("Worker.drain_seconds = 2.0") as web:
        with web.connect() as client:
            client.sendall(request())
            before = client.recv(65536)
            os.kill(web.workers[0], signal.SIGTERM)
            time.sleep(0.3)
            client.sendall(request())
            after = read_to_end(client)
        new = web.ask(request())
        status = web.stop()

    assert b"Connection: close" not in before
    assert b"Connection: close" in after
    assert new.startswith(b"HTTP/1.1 200 ")
    assert status == 0


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_no_request_that_was_sent_before_the_drain_ended_is_dropped():
    lost = []
    for _ in range(5):
        with serving(*ALL_STOP, "Worker.drain_seconds = 0.5", workers=2, backlog=64) as web:
            clients = [Client(web.port, kept=number % 2) for number in range(12)]
            time.sleep(0.5)
            web.stop()
            for client in clients:
                client.join()
            lost += [each for client in clients for each in client.lost]
            assert "Event loop broke" not in web.log
            assert sum(client.answered for client in clients) > 50

    assert lost == []


class Client(threading.Thread):
    """Asks until nobody listens any more, and notes what got no answer."""

    def __init__(self, port, *, kept):
        super().__init__()
        self.answered = 0
        self.lost = []
        self._port = port
        self._request = request("/") if kept else CLOSE
        self.start()

    def run(self):
        while True:
            with socket.socket() as connection:
                connection.settimeout(10)
                try:
                    connection.connect(("127.0.0.1", self._port))
                except ConnectionRefusedError:
                    return
                except OSError as error:
                    self.lost.append(repr(error))
                    return
                self._use(connection)

    def _use(self, connection):
        received, place = b"", "first request"
        while b"Connection: close" not in received:
            try:
                connection.sendall(self._request)
                received = connection.recv(65536)
            except OSError as error:
                self.lost.append(f"{place}: {type(error).__name__}")
                return
            if not received:
                # An idle connection that ends is no loss; behind a first request it is.
                self.lost.append("nothing")
                return
            self.answered += 1
            place = "later request"
        with suppress(OSError):
            read_to_end(connection)


def test_a_master_that_is_killed_leaves_no_worker():
    with serving() as web:
        workers = web.workers
        web.process.kill()
        deadline = time.monotonic() + 10
        while any(psutil.pid_exists(each) for each in workers):
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_a_request_in_flight_is_answered_after_the_drain():
    with serving() as web, web.connect() as client:
        client.sendall(request("/slow?1.5"))
        time.sleep(0.3)
        web.process.send_signal(signal.SIGTERM)
        answer = read_to_end(client)
        status = web.process.wait(10)

    assert answer.endswith(b"slow")
    assert b"Connection: close" in answer
    assert status == 0
