"""A real Prometheus, which scrapes processes of this machine and evaluates our rules and panels."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast

import httpx2
import yaml

from tests.support.ports import HOST, free_port
from tests.support.processes import ROOT
from tests.support.waiting import DEADLINE_SECONDS, eventually

PROGRAM = shutil.which("prometheus")
MISSING = "prometheus is not installed"
MONITORING = ROOT / "monitoring"
SCRAPE_SECONDS = 2
# Grafana has four scrapes in it, and ours has as many for smooth lines.
RATE_INTERVAL = f"{10 * SCRAPE_SECONDS}s"

Points = list[tuple[float, float]]


class Line(NamedTuple):
    """A time series: its labels, and its points of time and value."""

    labels: Mapping[str, str]
    points: Points


class Prometheus:
    """A server that has recorded something."""

    def __init__(self, url: str) -> None:
        self._client = httpx2.Client(base_url=url, timeout=DEADLINE_SECONDS)

    def is_ready(self) -> bool:
        """Tell whether it answers queries."""
        try:
            return self._client.get("/-/ready").status_code == 200
        except httpx2.TransportError:
            return False

    def scraped(self) -> bool:
        """Tell whether all of its targets have been scraped."""
        found = self._get("/api/v1/targets", {})["activeTargets"]
        return bool(found) and all(each["health"] == "up" for each in found)

    def query(self, expression: str, start: float, end: float) -> list[Line]:
        """Return the series of a panel's expression, as Grafana would ask for them."""
        asked = {"query": filled(expression), "start": start, "end": end, "step": SCRAPE_SECONDS}
        return [
            Line(each["metric"], [(float(at), float(value)) for at, value in each["values"]])
            for each in self._get("/api/v1/query_range", asked)["result"]
        ]

    def close(self) -> None:
        """Close its connections."""
        self._client.close()

    def _get(self, path: str, asked: Mapping[str, Any]) -> dict[str, Any]:
        answer = self._client.get(path, params=asked)
        assert answer.status_code == 200, answer.text
        return cast("dict[str, Any]", answer.json()["data"])


def filled(expression: str) -> str:
    """Return an expression with the dashboard's variables filled in: all pods, our interval."""
    return re.sub(r"\$\w+", ".*", expression.replace("$__rate_interval", RATE_INTERVAL))


@contextmanager
def recording(folder: Path, ports: Sequence[int]) -> Iterator[Prometheus]:
    """Scrape the web process and the worker on these ports with the jobs and rules that we ship."""
    assert PROGRAM, MISSING
    config = folder / "prometheus.yaml"
    config.write_text(json.dumps(configuration(ports)), encoding="utf-8")
    address = f"{HOST}:{free_port()}"
    options = (f"--storage.tsdb.path={folder}/data", f"--web.listen-address={address}")
    with (folder / "prometheus.log").open("wb") as log:
        command = [PROGRAM, f"--config.file={config}", *options]
        process = subprocess.Popen(command, stdout=log, stderr=log)
    server = Prometheus(f"http://{address}")
    try:
        eventually(server.is_ready)
        eventually(server.scraped)
        yield server
    finally:
        server.close()
        process.terminate()
        process.wait(DEADLINE_SECONDS)


def configuration(ports: Sequence[int]) -> dict[str, Any]:
    """Return the configuration of compose.yaml, with ports of this machine as its targets."""
    shipped = yaml.safe_load((MONITORING / "compose" / "prometheus.yaml").read_text())
    interval = f"{SCRAPE_SECONDS}s"
    shipped["global"] |= {"scrape_interval": interval, "evaluation_interval": interval}
    shipped.pop("alerting", None)  # nobody is to be told
    shipped["rule_files"] = [str(MONITORING / "alerts.yaml")]
    for job, port in zip(shipped["scrape_configs"], ports, strict=True):
        job["static_configs"][0]["targets"] = [f"{HOST}:{port}"]
    return cast("dict[str, Any]", shipped)
