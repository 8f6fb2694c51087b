"""Starting, asking and stopping what is measured."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.database import Database
from benchmarks.subjects import API_KEY, ENVIRONMENTS, PEERS, ROOT, Subject
from tests.support.ports import free_port

HOST = "127.0.0.1"
START_SECONDS = 60
STOP_SECONDS = 60
POLL_SECONDS = 0.002
LOGS = ENVIRONMENTS / "logs"
HEADERS = {"X-API-Key": API_KEY}


class NotReady(Exception):
    """A server did not come up; the message holds the end of its log."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer of a server."""

    status: int
    headers: dict[str, str]
    document: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A subject that runs."""

    subject: Subject
    port: int
    process: subprocess.Popen[bytes]
    database: Database | None
    log: Path
    started_at: float

    def ask(
        self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None
    ) -> Answer:
        """Send one request on a connection of its own; the answer has a document, or nothing."""
        status, fields, content = self.exchange(method, path, body, headers)
        return Answer(status, fields, json.loads(content) if content else None)

    def exchange(
        self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """Send one request on a connection of its own; return status, headers and body."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=10)
        try:
            sent = None if body is None else json.dumps(body)
            given = HEADERS if headers is None else headers
            connection.request(method, path, sent, {"Content-Type": "application/json", **given})
            response = connection.getresponse()
            fields = {name.lower(): value for name, value in response.getheaders()}
            return response.status, fields, response.read()
        finally:
            connection.close()

    def await_answer(self, limit: float = START_SECONDS) -> float:
        """Wait until /health says 200; return the seconds since the start.

        Args:
            limit: Longest time to wait, in seconds since the start.

        Raises:
            NotReady: it died, or took too long.
        """
        while time.perf_counter() - self.started_at < limit:
            if self.process.poll() is not None:
                break
            try:
                if self.ask("GET", "/health").status == http.HTTPStatus.OK:
                    return time.perf_counter() - self.started_at
            except OSError:
                time.sleep(POLL_SECONDS)
        log = self.log.read_text(encoding="utf-8", errors="replace")[-3000:]
        raise NotReady(f"{self.subject.label} does not answer:\n{log}")

    def stop(self) -> float:
        """Send SIGTERM; return the seconds until the process was gone."""
        start = time.perf_counter()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        return time.perf_counter() - start


@contextmanager
def running(
    subject: Subject, *, database: Database | None = None, collector: str, **variables: str
) -> Iterator[Server]:
    """Run a server until the end of the block; it need not answer yet.

    Args:
        subject: What to run.
        database: Where its users are; None for one that has none.
        collector: Where telemetry goes.
        variables: More for its environment.
    """
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / f"{subject.key}.log"
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, log.open("wb") as output:
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "PYTHONPATH": f"{PEERS}:{ROOT}" if subject.folder != ROOT else str(ROOT),
            "PORT": str(port),
            "UVICORN_PORT": str(port),
            "GRANIAN_PORT": str(port),
            "API_KEY": API_KEY,
            "DATABASE_URL": database.url if database else "postgresql://nobody@127.0.0.1:9/none",
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector,
            "PROMETHEUS_MULTIPROC_DIR": folder,
            **subject.environment,
            **variables,
        }
        started_at = time.perf_counter()
        process = subprocess.Popen(
            subject.command,
            cwd=subject.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        server = Server(
            subject=subject,
            port=port,
            process=process,
            database=database,
            log=log,
            started_at=started_at,
        )
        try:
            yield server
        finally:
            if process.poll() is None:
                server.stop()
