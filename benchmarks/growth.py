"""Changes in cost with many users, or after many requests: there should be none."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any
from uuid import UUID

from benchmarks import cell, processes
from benchmarks.database import Database, checkpoint
from benchmarks.progress import Progress
from benchmarks.servers import Server, running
from benchmarks.subjects import JWT_SECRET, OURS
from chassis.signatures import PageTokens
from tests.support.servers import PostgreSQLServer

PAGE_SIZE = 50
PLACES = ("first", "middle", "last")
MEMORY_BLOCK = 20_000  # requests between two looks at the memory


def measure_size(  # noqa: PLR0913 - what, where, how much, and whom to tell
    postgresql: PostgreSQLServer,
    collector: str,
    users: int,
    *,
    rounds: int,
    seconds: float,
    progress: Progress,
) -> Iterator[dict[str, Any]]:
    """Yield list pages, point reads and inserts over a table of some size."""
    progress.step(f"adding {users:,} users", users / 50_000)
    database = Database(postgresql, f"growth_{users}")
    database.grow(1, users)
    with running(OURS, database=database, collector=collector) as server:
        server.await_answer()
        works = {place: [_page(database, users, place)] for place in PLACES}
        works["first again"] = works["first"]  # what differs from the first is noise
        for number in range(rounds + 1):
            for name in random.sample(list(works), len(works)):
                progress.step(f"{name} list page of {users:,} users", seconds)
                outcome = cell.load(server, name, seconds=seconds, paths=works[name])
                if number:
                    yield _row(users, f"{name} page", number, cell.row(outcome))
            progress.step(f"reads and inserts, {users:,} users", 2 * seconds)
            if number:
                yield from _reads_and_inserts(server, postgresql, users, number, seconds)


def _reads_and_inserts(
    server: Server, postgresql: PostgreSQLServer, users: int, number: int, seconds: float
) -> Iterator[dict[str, Any]]:
    assert server.database is not None
    yield _row(users, "W2", number, cell.row(cell.load(server, "W2", seconds=seconds)))
    checkpoint(postgresql)
    before = server.database.written_bytes()
    figures = cell.row(cell.load(server, "W1", seconds=seconds))
    written = server.database.written_bytes() - before
    figures["wal_bytes_per_row"] = written / max(1, figures["requests"])
    yield _row(users, "W1", number, figures)


def measure_memory(
    postgresql: PostgreSQLServer, collector: str, requests: int, progress: Progress
) -> Iterator[dict[str, Any]]:
    """Yield the memory of one worker every so many requests, reads and writes in turn."""
    database = Database(postgresql, "growth_memory")
    database.grow(1, cell.SEEDED_USERS)
    with running(OURS, database=database, collector=collector, WEB_CONCURRENCY="1") as server:
        server.await_answer()
        done = number = 0
        while done < requests:
            block = 0
            while block < MEMORY_BLOCK:
                progress.step(f"memory over {requests:,} requests: {done + block:,}", 10)
                block += sum(
                    cell.load(server, each, seconds=5).requests for each in ("W1", "W2", "W3")
                )
            done, number = done + block, number + 1
            pss = processes.pss_bytes(server.process.pid)
            names = {"subject": "ours", "round": number, "requests": done}
            yield {"suite": "worker_memory", **names, "pss_mib": pss / 2**20}


def _page(database: Database, users: int, place: str) -> str:
    """Return the path of a page: with the token that the page before it would have given."""
    path = f"/users?page_size={PAGE_SIZE}"
    if place == "first":
        return path
    offset = users // 2 if place == "middle" else users - PAGE_SIZE - 1
    statement = "SELECT id::text FROM users ORDER BY id OFFSET %(offset)s LIMIT 1"
    last_seen = UUID(database.value(statement, {"offset": offset}))
    return f"{path}&page_token={PageTokens(JWT_SECRET, '').sign(last_seen, None, None)}"


def _row(users: int, workload: str, number: int, figures: dict[str, Any]) -> dict[str, Any]:
    names = {"subject": "ours", "users": users, "workload": workload, "round": number}
    return {"suite": "growth", **names, **figures}
