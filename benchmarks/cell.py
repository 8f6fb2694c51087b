"""One cell: one server under one workload for some seconds."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from itertools import count
from typing import Any

from benchmarks.database import ROOT
from benchmarks.load import Outcome, Plan
from benchmarks.servers import HEADERS, Server

# No more than one worker has threads for: a worker that happens to get all of them must
# not refuse any.
CONNECTIONS = 16
SEEDED_USERS = 1000
TITLES = {"W1": "POST /users", "W2": "GET /users/{id}", "W3": "GET /health"}

_cells = count(1)


def load(
    server: Server,
    workload: str,
    *,
    seconds: float,
    rate: float | None = None,
    paths: list[str] | None = None,
) -> Outcome:
    """Put a server under load.

    Args:
        server: Whom.
        workload: W1, W2 or W3, or a name for what `paths` are.
        seconds: How long.
        rate: Requests a second in an open loop; None for a closed loop.
        paths: What to read instead of the workload's own.
    """
    watched = {"server": server.process.pid}
    if server.database is not None:
        watched["database"] = server.database.server_pid
    plan = Plan(
        port=server.port,
        connections=CONNECTIONS,
        seconds=seconds,
        expected_status=201 if workload == "W1" else 200,
        paths=paths or _paths(server, workload),
        registering=f"w{next(_cells)}-",
        headers=HEADERS,
        rate=rate,
        watched=watched,
    )
    answer = subprocess.run(
        [sys.executable, "-m", "benchmarks.load"],
        cwd=ROOT,
        input=json.dumps(asdict(plan)),
        capture_output=True,
        text=True,
        check=False,
    )
    if answer.returncode != 0:
        raise RuntimeError(f"{server.subject.label}, {workload}: {answer.stderr[-2000:]}")
    return Outcome(**json.loads(answer.stdout))


def row(outcome: Outcome) -> dict[str, Any]:
    """Turn an outcome into what is kept of it."""
    requests = max(1, outcome.requests)
    return {
        "requests": outcome.requests,
        "per_second": outcome.requests / outcome.seconds,
        "other_statuses": outcome.other_statuses,
        "server_us": outcome.cpu_seconds["server"] / requests * 1e6,
        "database_us": outcome.cpu_seconds.get("database", 0.0) / requests * 1e6,
        "client_us": outcome.client_cpu_seconds / requests * 1e6,
        "busiest_share": outcome.busiest_share["server"],
        **{f"{name}_ms": value for name, value in outcome.latency_ms.items()},
    }


def _paths(server: Server, workload: str) -> list[str]:
    if workload == "W3":
        return ["/health"]
    if workload == "W1" or server.database is None:
        return []
    statement = "SELECT id::text FROM users ORDER BY md5(id::text) LIMIT 1000"
    return [f"/users/{user_id}" for (user_id,) in server.database.rows(statement)]
