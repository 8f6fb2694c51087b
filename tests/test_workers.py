"""The background process: what it tells about itself."""

from __future__ import annotations

import threading
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import httpx2
import pytest

from tests.deployment import eventually
from tests.servers import HOST, free_port
from userservice.delivery import STALLED_SECONDS, Delivery
from userservice.engine import LocalEngine
from workers import serve_worker_status


def ask(port, path):
    return httpx2.get(f"http://{HOST}:{port}{path}", timeout=30)


def test_a_worker_is_healthy_while_its_loop_goes_round():
    port, goes_round = free_port(), threading.Event()
    serve_worker_status(port, goes_round.is_set)

    goes_round.set()
    alive = ask(port, "/health")
    goes_round.clear()
    stalled = ask(port, "/health")
    metrics = ask(port, "/metrics")

    assert (alive.status_code, stalled.status_code, metrics.status_code) == (200, 503, 200)
    assert "# TYPE" in metrics.text


def test_a_loop_that_has_not_gone_round_for_a_minute_is_stalled(services, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("userservice.delivery.time", SimpleNamespace(monotonic=lambda: now[0]))
    delivery = Delivery(services, {}, engine=LocalEngine(1), lease=timedelta(seconds=15))

    now[0] += STALLED_SECONDS - 1
    soon = delivery.is_alive()
    now[0] += 1
    later = delivery.is_alive()

    assert (soon, later) == (True, False)


@pytest.mark.integration
def test_a_worker_answers_on_its_port_and_without_one_on_none(deployment):
    port = free_port()
    worker = deployment.worker(WORKER_METRICS_PORT=str(port))
    silent = deployment.worker()
    worker.await_ready()
    silent.await_ready()

    health = ask(port, "/health")
    eventually(lambda: "outbox_oldest_message_age_seconds" in ask(port, "/metrics").text)

    assert health.status_code == 200
    assert listening(worker.process.pid) == {port}
    assert listening(silent.process.pid) == set()
    assert [worker.stop()[0], silent.stop()[0]] == [0, 0]


def listening(pid):
    """Return the ports on which a process takes connections."""
    process = Path(f"/proc/{pid}")
    rows = [line.split() for line in (process / "net" / "tcp").read_text().splitlines()[1:]]
    ports = {f"socket:[{row[9]}]": int(row[1].split(":")[1], 16) for row in rows if row[3] == "0A"}
    own = {str(each.readlink()) for each in (process / "fd").iterdir()}
    return {port for name, port in ports.items() if name in own}
