"""The first requests of a fresh process, all at once: `python -m tests.support.first_requests`.

The process has answered nothing before them, so whatever is made on first use is made now, by many
threads. Tests take a few starts; a race that is lost rarely wants more of them.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

from chassis.storage import migrations
from chassis.storage.database import DatabaseManager
from tests.conftest import API_KEY
from tests.support import servers
from tests.support.factories import ADA
from tests.support.loopback import NO_TLS
from tests.support.ports import is_served_by
from tests.support.serving import Service
from tests.support.waiting import DEADLINE_SECONDS, eventually

CLIENTS = 24
KEY = {"X-API-Key": API_KEY}
NOBODY = "/users/018f0000-0000-7000-8000-000000000000"
LOGIN = {"grant_type": "password", "username": "a@example.com", "password": "not the password"}


# The requests that use the most parts of the service: method, path, and what goes with them.
REQUESTS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("POST", "/users", {"json": ADA, "headers": {"Idempotency-Key": "1"}}),
    ("GET", "/users/me", {"headers": {"Authorization": "Bearer a.b.c"}}),
    ("GET", "/users", {"headers": KEY}),
    ("POST", "/auth/token", {"data": LOGIN}),
    ("GET", "/openapi.json", {}),
    ("GET", "/metrics", {}),
    ("GET", "/ready", {}),
    ("PATCH", NOBODY, {"json": {"name": "N"}, "headers": KEY}),
)


def first_answers(folder: Path, **variables: str) -> list[int]:
    """Start a process, send it all first requests at once, and return their statuses."""
    service = Service(folder, {"WEB_THREADS": str(2 * CLIENTS), **variables})
    together = threading.Barrier(CLIENTS)

    def first(number: int) -> int:
        with httpx2.Client(
            base_url=service.client.base_url, timeout=DEADLINE_SECONDS, verify=NO_TLS
        ) as client:
            together.wait(DEADLINE_SECONDS)
            method, path, options = REQUESTS[number % len(REQUESTS)]
            return client.request(method, path, **options).status_code

    try:
        # Nothing is asked to find out: that would be the first request.
        eventually(lambda: is_served_by(service.process.pid, service.port) and service.workers)
        with ThreadPoolExecutor(CLIENTS) as threads:
            return list(threads.map(first, range(CLIENTS)))
    finally:
        service.close()


def main() -> int:
    """Start the service again and again; return 1 after a failure of the server."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--starts", type=int, default=20)
    starts = parser.parse_args().starts
    failed = False
    with servers.valkey() as redis_url:
        for name, url in (("without Redis", ""), ("with Redis", redis_url)):
            statuses: Counter[int] = Counter()
            for _ in range(starts):
                with _database() as (folder, database_url):
                    statuses.update(
                        first_answers(
                            folder,
                            DATABASE_URL=database_url,
                            REDIS_URL=url,
                            RATE_LIMIT_ENABLED="true",
                        )
                    )
            failed |= any(status >= 500 for status in statuses)
            sys.stdout.write(f"{name}: {dict(sorted(statuses.items()))}\n")
    return int(failed)


@contextmanager
def _database() -> Iterator[tuple[Path, str]]:
    with tempfile.TemporaryDirectory() as name:
        url = f"sqlite:///{name}/app.db"
        database = DatabaseManager(url).initialize()
        migrations.upgrade(database)
        database.close()
        yield Path(name), url


if __name__ == "__main__":
    sys.exit(main())
