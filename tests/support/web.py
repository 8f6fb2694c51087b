"""The web process, started the way an operator starts it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import requests

from tests.support.ports import HOST, free_port, is_served_by
from tests.support.waiting import DEADLINE_SECONDS, eventually

APP = Path(__file__).resolve().parent.parent.parent / "app.py"


@dataclass(frozen=True)
class Web:
    """A web process that answers."""

    port: int
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def url(self):
        return f"http://{HOST}:{self.port}"

    def connect(self, timeout=DEADLINE_SECONDS):
        """Open a connection of one's own; reading from it fails after `timeout` seconds."""
        return socket.create_connection((HOST, self.port), timeout)

    def output(self):
        return self.log.read_text(errors="replace")

    def stop(self, number=signal.SIGTERM):
        """Ask the process to end and return its status."""
        self.process.send_signal(number)
        return self.process.wait(DEADLINE_SECONDS)


@contextmanager
def serve(**variables):
    """Run `python app.py` in an environment that holds nothing but `variables`."""
    port = free_port()
    defaults = {"PORT": str(port), "REDIS_URL": "", "RATE_LIMIT_ENABLED": "false"}
    inherited = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"}
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, APP],
                env=inherited | defaults | variables,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            web = Web(port, process, log)
            eventually(lambda: _is_answering(web))
            yield web
        finally:
            if process.poll() is None:
                with suppress(subprocess.TimeoutExpired):
                    web.stop(signal.SIGQUIT)
            process.kill()
            process.wait()


def _is_answering(web):
    assert web.process.poll() is None, f"the process died:\n{web.output()}"
    if not is_served_by(web.process.pid, web.port):
        return False
    with suppress(requests.ConnectionError):
        return requests.get(f"{web.url}/health", timeout=DEADLINE_SECONDS)
    return False
