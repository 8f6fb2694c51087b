"""Draw panels of the dashboard from a real load: `make dashboard` writes docs/dashboard.svg."""

from __future__ import annotations

import json
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from tests.pictures import prometheus
from tests.pictures.chart import Chart, Series, draw
from tests.pictures.prometheus import MONITORING, Line, Prometheus, recording
from tests.pictures.traffic import Traffic
from tests.support.deployment import Deployment, Web
from tests.support.ports import free_port
from tests.support.processes import ROOT
from tests.support.provider import MailProvider
from tests.support.servers import postgresql, valkey

PICTURE = ROOT / "docs" / "dashboard.svg"
(DASHBOARD,) = (MONITORING / "dashboards").glob("*.json")
MAIN = (
    "Requests by endpoint",
    "Duration of all requests",
    "Answers by status",
    "Connections",
    "Messages that wait",
    "Attempts to deliver by result",
)
# Seconds of the load: all is well, the e-mail service is away, all is well again.
BEFORE, AWAY, AFTER = 120, 60, 120


class Stage(NamedTuple):
    """The service and its surroundings, under observation."""

    web: Web
    provider: MailProvider
    prometheus: Prometheus


def main() -> None:
    """Record a load, and draw it."""
    if prometheus.PROGRAM is None:
        sys.exit(prometheus.MISSING)
    with tempfile.TemporaryDirectory() as folder, stage(Path(folder)) as running:
        start, end = load(running)
        charts = [chart(panel, running.prometheus, start, end) for panel in panels()]
    day = datetime.fromtimestamp(start, UTC).date()
    caption = (
        f"Recorded on {day} by make dashboard, all on one busy machine. For {AWAY} s from minute"
        f" {BEFORE // 60} on, the e-mail service answers 503."
    )
    PICTURE.write_text(draw(charts, end - start, caption), encoding="utf-8")


@contextmanager
def stage(folder: Path) -> Iterator[Stage]:
    """Start a web process and a worker with real servers, and Prometheus beside them."""
    provider = MailProvider()
    with ExitStack() as opened:
        opened.callback(provider.close)
        database, redis = opened.enter_context(postgresql()), opened.enter_context(valkey())
        deployment = opened.enter_context(Deployment(folder, database, provider.url))
        worker_port = free_port()
        shared = {"ENVIRONMENT": "development", "REDIS_URL": redis, "RATE_LIMIT_ENABLED": "true"}
        web, _ = deployment.both(
            **shared, WEB_CONCURRENCY="2", WORKER_METRICS_PORT=str(worker_port)
        )
        yield Stage(web, provider, opened.enter_context(recording(folder, (web.port, worker_port))))


def load(running: Stage) -> tuple[float, float]:
    """Call the service for a while, with an outage of the e-mail service; return start and end."""
    start = time.time()
    with Traffic(running.web.url):
        time.sleep(BEFORE)
        running.provider.answer = 503
        time.sleep(AWAY)
        running.provider.answer = 200
        time.sleep(AFTER)
        return start, start + BEFORE + AWAY + AFTER


def panels() -> list[dict[str, Any]]:
    """Return the main panels of the dashboard that we ship."""
    by_title = {each["title"]: each for each in json.loads(DASHBOARD.read_text())["panels"]}
    return [by_title[title] for title in MAIN]


def chart(panel: dict[str, Any], source: Prometheus, start: float, end: float) -> Chart:
    """Evaluate a panel's own expressions."""
    series = [
        Series(name_of(line, target["legendFormat"]), [(at - start, v) for at, v in line.points])
        for target in panel["targets"]
        for line in source.query(target["expr"], start, end)
    ]
    # Before the first event a 0 stands for all the lines that it will have, and has no labels.
    named = [each for each in series if each.name.strip()] or series
    unit = panel["fieldConfig"]["defaults"].get("unit", "short")
    return Chart(panel["title"], unit, sorted(named, key=peak, reverse=True))


def name_of(line: Line, template: str) -> str:
    """Return the legend of a line: its labels in the panel's words."""
    return re.sub(r"\{\{(\w+)\}\}", lambda found: line.labels.get(found[1], ""), template)


def peak(series: Series) -> float:
    """Return the largest value of a line; nan is none."""
    return max((value for _, value in series.points if value == value), default=0.0)  # noqa: PLR0124


if __name__ == "__main__":
    main()
