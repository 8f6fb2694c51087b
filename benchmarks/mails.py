"""How many e-mails a worker delivers, beside a loop that posts as many and does nothing else.

Run as a program it is that loop: the same HTTP client, one e-mail after the other.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from benchmarks.database import ROOT, Database, checkpoint
from benchmarks.imports import WORKER, await_true
from benchmarks.progress import Progress
from benchmarks.servers import running
from tests.servers import PostgreSQLServer
from userservice.database import uuid7
from userservice.http_client import HttpClient

MAILS = 5_000
SETTLED = "SELECT count(*) FROM outbox_messages WHERE status = 'sent'"
FILL = """
    INSERT INTO outbox_messages (id, topic, payload, trace, status, attempts, due_at, expires_at)
    SELECT gen_random_uuid(), 'user.registered', json_build_object('user_id', id), '{}', 'queued',
           0, now(), now() + interval '1 day'
    FROM users
"""


def measure(
    postgresql: PostgreSQLServer, collector: str, *, rounds: int, progress: Progress
) -> Iterator[dict[str, Any]]:
    """Yield e-mails a second of the loop and of one worker, round by round.

    The collector takes the e-mails as well: it takes whatever is posted.
    """
    provider = f"{collector}/mails"
    database = Database(postgresql, "mails")
    database.grow(1, MAILS)
    with running(WORKER, database=database, collector=collector, EMAIL_SERVICE_URL=provider):
        for number in range(rounds + 1):
            progress.step(f"sending {MAILS:,} e-mails twice", 8)
            looped = _post_in_a_loop(provider)
            database.execute("TRUNCATE outbox_messages")
            checkpoint(postgresql)
            sent = _deliver(database)
            if number:  # the first starts threads and opens connections
                for subject, per_second in (("loop", looped), ("worker", sent)):
                    figures = {"subject": subject, "round": number, "per_second": per_second}
                    yield {"suite": "worker", **figures}


def _deliver(database: Database) -> float:
    started_at = time.perf_counter()
    database.execute(FILL)
    await_true(lambda: database.value(SETTLED) == MAILS)
    return MAILS / (time.perf_counter() - started_at)


def _post_in_a_loop(provider: str) -> float:
    command = [sys.executable, "-m", "benchmarks.mails", provider]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return float(done.stdout)


def main() -> None:
    """Post to the address that is the argument; print e-mails a second."""
    http = HttpClient(timeout=timedelta(seconds=10))
    variables = {"name": "Ada Lovelace"}
    http.post(sys.argv[1], {}, {})  # connects
    started_at = time.perf_counter()
    for number in range(MAILS):
        mail = {"to": f"{number}@example.com", "template": "welcome", "variables": variables}
        http.post(sys.argv[1], mail, {"Idempotency-Key": str(uuid7())})
    print(MAILS / (time.perf_counter() - started_at))
    http.close()


if __name__ == "__main__":
    main()
