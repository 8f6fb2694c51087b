"""A web process as an operator starts it, and what it wrote."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import httpx2
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import API_KEY
from tests.support.loopback import NO_TLS
from tests.support.ports import HOST, children, free_port, is_served_by
from tests.support.waiting import DEADLINE_SECONDS, eventually

ROOT = Path(__file__).resolve().parent.parent.parent

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


class Service:
    """`python app.py` with the environment given, and nothing else from ours."""

    def __init__(
        self,
        folder: Path,
        variables: dict[str, str],
        *,
        before: Sequence[str] = (),
        output: IO[bytes] | None = None,
    ) -> None:
        """Start it; `before` is a program that starts it, `output` a stdout of another kind."""
        self.port = int(variables.get("PORT") or free_port())
        self._output = folder / f"stdout-{self.port}"
        self._errors = folder / f"stderr-{self.port}"
        defaults = {
            "PATH": os.environ.get("PATH", os.defpath),
            "LC_ALL": "C.UTF-8",
            "PORT": str(self.port),
            "REDIS_URL": "",
            "API_KEY": API_KEY,
            "RATE_LIMIT_ENABLED": "false",
            "WEB_CONCURRENCY": "1",
            "PASSWORD_MEMORY_KIB": "8",
            "PASSWORD_TIME_COST": "1",
        }
        with self._output.open("wb") as file, self._errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [*before, sys.executable, ROOT / "app.py"],
                env=defaults | variables,
                stdin=subprocess.DEVNULL,
                stdout=output or file,
                stderr=errors,
                start_new_session=True,
            )
        self.client = httpx2.Client(
            base_url=f"http://{HOST}:{self.port}", timeout=DEADLINE_SECONDS, verify=NO_TLS
        )

    @property
    def output(self) -> str:
        """The output of the processes on stdout."""
        return self._output.read_text()

    @property
    def errors(self) -> str:
        """The output of the processes on stderr."""
        return self._errors.read_text()

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The log, each line read as the JSON object that it must be."""
        return [json.loads(line) for line in self.output.split("\n")[:-1]]

    def logged(self, message: str) -> list[dict[str, Any]]:
        """Return the lines of one event."""
        return [line for line in self.lines if line["message"] == message]

    @property
    def workers(self) -> list[int]:
        """The ids of the worker processes."""
        return children(self.process.pid)

    def samples(self) -> Samples:
        """Scrape once: (name, labels) -> value."""
        text = self.client.get("/metrics").text
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def total(self, name: str, **labels: str) -> float:
        """Scrape once; add the values of all samples with a name and at least these labels."""
        wanted = set(labels.items())
        found = self.samples().items()
        return sum(value for (each, own), value in found if each == name and wanted <= own)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Ask the process to end, and wait until it has."""
        self.client.close()
        self.process.send_signal(number)
        self.process.wait(DEADLINE_SECONDS)

    def close(self) -> None:
        """End the process, one way or another."""
        self.client.close()
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(DEADLINE_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
                raise


@contextmanager
def serving(folder: Path, **variables: str) -> Iterator[Service]:
    """Start the service and wait until all its workers are there, as many as configured."""
    service = Service(folder, variables)
    with ExitStack() as running:
        running.callback(service.close)
        expected = int(variables.get("WEB_CONCURRENCY", "1") or 2)  # 2 is the default
        eventually(lambda: is_serving(service) and service.output.count("Booting") == expected)
        yield service


def is_serving(service: Service) -> bool:
    """Tell whether it answers; fail when it has ended."""
    assert service.process.poll() is None, service.output + service.errors
    if not is_served_by(service.process.pid, service.port):
        return False
    try:
        return service.client.get("/health").status_code == 200
    except httpx2.TransportError:
        return False


def in_parallel(calls: int, clients: int, call: Callable[[httpx2.Client, int], Any], url: str):
    """Make numbered calls by several clients, each with connections of its own."""

    def work(client_number: int) -> list[Any]:
        with httpx2.Client(base_url=url, timeout=DEADLINE_SECONDS, verify=NO_TLS) as client:
            return [call(client, number) for number in range(client_number, calls, clients)]

    with ThreadPoolExecutor(clients) as threads:
        return [answer for answers in threads.map(work, range(clients)) for answer in answers]
