"""A worker that serves an application of a few lines, without the service around it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any

from tests.support.ports import HOST, children, free_port

ROOT = Path(__file__).resolve().parent.parent.parent
START_SECONDS = 30
STOP_SECONDS = 25

CONFIGURATION = """
import logging
from chassis.http.worker import Worker
from tests.http.harness import refusal, log_refusal

handler = logging.StreamHandler()
line = "%(levelname)s %(name)s %(message)s %(error_type)s"
handler.setFormatter(logging.Formatter(line, defaults={"error_type": ""}))
logging.basicConfig(handlers=[handler], level="DEBUG")
Worker.refusal = staticmethod(refusal)
Worker.count_refusal = staticmethod(log_refusal)
worker_class = Worker
control_socket_disable = True
"""


def refusal(status: int) -> tuple[str, list[tuple[str, str]], bytes]:
    line = f"{int(status)} {HTTPStatus(status).phrase}"
    return line, [("Content-Type", "text/plain")], b"refused %d" % status


def log_refusal(method: str, status: int, seconds: float) -> None:
    sys.stderr.write(f"refused {method} {int(status)} {seconds >= 0}\n")
    sys.stderr.flush()


class Running:
    """A gunicorn that answers."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.process = process
        self.port = port
        self._log = log

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def workers(self) -> list[int]:
        return children(self.process.pid)

    def connect(self, timeout: float = 15, buffer: int = 0, host: str = HOST) -> socket.socket:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        client = socket.socket(family)
        client.settimeout(timeout)
        if buffer:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        try:
            client.connect((host, self.port))
        except OSError:
            client.close()
            raise
        return client

    def ask(self, data: bytes, *, is_ended: bool = False) -> bytes:
        """Send, and read to the server's end."""
        with self.connect() as client:
            client.sendall(data)
            if is_ended:
                with suppress(OSError):  # the server may have been quicker
                    client.shutdown(socket.SHUT_WR)
            return read_to_end(client)

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(STOP_SECONDS)


@contextmanager
def serving(
    *configuration: str, prefix: tuple[str, ...] = (), host: str = HOST, **settings: Any
) -> Iterator[Running]:
    """Serve tests/http/application.py with one worker and few threads."""
    port = free_port()
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    values = {"bind": address, "threads": 4, "workers": 1, "worker_tmp_dir": "/dev/shm"} | settings
    lines = [f"{name} = {value!r}" for name, value in values.items()]
    with tempfile.TemporaryDirectory() as folder:
        file, log = Path(folder) / "conf.py", Path(folder) / "log"
        file.write_text("\n".join([CONFIGURATION, *lines, *configuration]))
        command = [sys.executable, "-m", "gunicorn", "--config", str(file)]
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*prefix, *command, "tests.http.application:application"],
                cwd=ROOT,
                env={"PATH": os.environ.get("PATH", os.defpath), "PYTHONPATH": str(ROOT)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        running = Running(process, port, log)
        try:
            _await_answer(running, host)
            yield running
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGQUIT)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(STOP_SECONDS)
            process.kill()
            process.wait()


def _await_answer(running: Running, host: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        assert running.process.poll() is None, running.log
        assert time.monotonic() < deadline, running.log
        with suppress(OSError), running.connect(host=host) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
            if read_to_end(client):
                return
        time.sleep(0.02)


def read_to_end(client: socket.socket) -> bytes:
    """Return all that comes until the server closes; a reset counts as the end."""
    received = b""
    with suppress(ConnectionResetError):
        while data := client.recv(65536):
            received += data
    return received


def read_to_reset(client: socket.socket) -> int:
    """Return how much comes before the connection is reset; -1 when it ends without."""
    received = 0
    try:
        while data := client.recv(65536):
            received += len(data)
    except ConnectionResetError:
        return received
    return -1


def request(path: str = "/", *headers: str, method: str = "GET", body: bytes = b"") -> bytes:
    """Return a request of HTTP/1.1."""
    lines = [f"{method} {path} HTTP/1.1", "Host: test", *headers]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body
