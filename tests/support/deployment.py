"""Web and worker processes as an operator starts them, and what they wrote."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx2

from tests.support.loopback import NO_TLS
from tests.support.ports import HOST, children, free_port, is_served_by
from tests.support.waiting import DEADLINE_SECONDS, eventually

ROOT = Path(__file__).resolve().parent.parent.parent
APP = (sys.executable, str(ROOT / "app.py"))
API_KEY = "test-api-key"


class Process:
    """`python app.py …` with the environment given, and nothing else from ours."""

    def __init__(self, folder: Path, command: Sequence[str], variables: dict[str, str]) -> None:
        defaults = {
            "PATH": os.environ.get("PATH", os.defpath),
            "LC_ALL": "C.UTF-8",
            "ENVIRONMENT": "staging",
            "REDIS_URL": "",
            "API_KEY": API_KEY,
            "RATE_LIMIT_ENABLED": "false",
            "WEB_CONCURRENCY": "1",
        }
        number = len(list(folder.glob("output-*")))
        self._output = folder / f"output-{number}"
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=defaults | variables,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        """The output of the process on stdout and stderr."""
        return self._output.read_text()

    def logged(self, beginning: str) -> list[dict[str, Any]]:
        """Return the log lines whose message begins like this."""
        lines = (_read(line) for line in self.output.split("\n")[:-1] if line[:1] == "{")
        return [line for line in lines if line and line["message"].startswith(beginning)]

    @property
    def errors(self) -> list[str]:
        """The error lines of the process, with their exceptions."""
        lines = [line for line in self.logged("") if line["level"] == "ERROR"]
        return [f"{line['message']}: {line.get('exception', '')}" for line in lines]

    @property
    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self.process.poll() is None

    @property
    def children(self) -> list[int]:
        """The ids of the process's children."""
        return children(self.process.pid)

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def wait(self, seconds: float = DEADLINE_SECONDS) -> int:
        """Return the exit status of a process that ends."""
        return self.process.wait(seconds)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, float]:
        """Ask the process to end; return its exit status and how many seconds it took."""
        started_at = time.monotonic()
        self.send(number)
        return self.wait(), time.monotonic() - started_at

    def kill(self) -> None:
        """End the process and all its children as a crash would."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def _read(line: str) -> dict[str, Any] | None:
    """Read a log line, unless it is torn: its process was killed, or the disk was full."""
    with suppress(ValueError):
        return dict(json.loads(line))
    return None


AnyProcess = TypeVar("AnyProcess", bound=Process)


class Web(Process):
    """`python app.py`."""

    def __init__(self, folder: Path, variables: dict[str, str], before: Sequence[str] = ()) -> None:
        self.port = free_port()
        self.url = f"http://{HOST}:{self.port}"
        super().__init__(folder, (*before, *APP), variables | {"PORT": str(self.port)})

    def get(self, path: str) -> int:
        """Return the status of a GET on a connection of its own; 0 when there was no answer."""
        try:
            return httpx2.get(self.url + path, timeout=DEADLINE_SECONDS, verify=NO_TLS).status_code
        except httpx2.TransportError:
            return 0

    def await_ready(self) -> None:
        """Wait until it can serve."""

        def is_ready() -> bool:
            assert self.is_alive, self.output
            return is_served_by(self.process.pid, self.port) and self.get("/ready") == 200

        eventually(is_ready)


class Worker(Process):
    """`python app.py worker`."""

    def __init__(self, folder: Path, variables: dict[str, str], before: Sequence[str] = ()) -> None:
        super().__init__(folder, (*before, *APP, "worker"), variables)

    def await_ready(self) -> None:
        """Wait until it delivers."""

        def is_ready() -> bool:
            assert self.is_alive, self.output
            return bool(self.logged("Worker started"))

        eventually(is_ready)


class Deployment:
    """Processes that share a database and an e-mail provider; whatever runs is killed at the end.

    Timeouts are short, so that tests of what they are for are.
    """

    def __init__(self, folder: Path, database_url: str, email_url: str) -> None:
        self._folder = folder
        self._variables = {
            "DATABASE_URL": database_url,
            "EMAIL_SERVICE_URL": email_url,
            "EMAIL_TIMEOUT_SECONDS": "1",
            "OUTBOX_LEASE_SECONDS": "2",
            "DATABASE_STATEMENT_TIMEOUT_SECONDS": "1",
            "DATABASE_POOL_TIMEOUT_SECONDS": "1",
        }
        self._processes: list[Process] = []

    def web(self, *, before: Sequence[str] = (), **variables: str) -> Web:
        """Start a web process; `before` is a program that starts it."""
        return self._keep(Web(self._folder, self._variables | variables, before))

    def worker(self, *, before: Sequence[str] = (), **variables: str) -> Worker:
        """Start a worker."""
        return self._keep(Worker(self._folder, self._variables | variables, before))

    def both(self, **variables: str) -> tuple[Web, Worker]:
        """Start one of each and wait until they are ready."""
        web, worker = self.web(**variables), self.worker(**variables)
        web.await_ready()
        worker.await_ready()
        return web, worker

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        for process in self._processes:
            process.kill()

    def _keep(self, process: AnyProcess) -> AnyProcess:
        self._processes.append(process)
        return process
