"""How many e-mails a worker delivers, beside a loop that posts as many and does nothing else.

Run as a program it is that loop: one client of httpx2, one e-mail after the other.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import httpx2

from benchmarks.database import ROOT, Database, checkpoint
from benchmarks.imports import WORKER, await_true
from benchmarks.progress import Progress
from benchmarks.servers import running
from chassis.storage.ids import uuid7
from tests.support.servers import PostgreSQLServer

SETTLED = "SELECT count(*) FROM outbox_messages WHERE status = 'sent'"
FILL = """
    INSERT INTO outbox_messages (id, topic, payload, trace, status, attempts, due_at, expires_at)
    SELECT gen_random_uuid(), 'user.registered', json_build_object('user_id', id), '{}', 'queued',
           0, now(), now() + interval '1 day'
    FROM users
"""


def measure(
    postgresql: PostgreSQLServer,
    collector: str,
    number: int,
    *,
    rounds: int,
    progress: Progress,
) -> Iterator[dict[str, Any]]:
    """Yield e-mails a second of the loop and of one worker, round by round.

    The collector takes the e-mails as well: it takes whatever is posted.
    """
    provider = f"{collector}/mails"
    database = Database(postgresql, "mails")
    database.grow(1, number)
    with running(WORKER, database=database, collector=collector, EMAIL_SERVICE_URL=provider):
        for each in range(rounds + 1):
            progress.step(f"sending {number:,} e-mails twice", number / 600)
            looped = _post_in_a_loop(provider, number)
            database.execute("TRUNCATE outbox_messages")
            checkpoint(postgresql)
            sent = _deliver(database, number)
            if each:  # the first starts threads and opens connections
                for subject, per_second in (("loop", looped), ("worker", sent)):
                    figures = {"subject": subject, "round": each, "per_second": per_second}
                    yield {"suite": "worker", **figures}


def _deliver(database: Database, number: int) -> float:
    started_at = time.perf_counter()
    database.execute(FILL)
    await_true(lambda: database.value(SETTLED) == number)
    return number / (time.perf_counter() - started_at)


def _post_in_a_loop(provider: str, number: int) -> float:
    command = [sys.executable, "-m", "benchmarks.mails", provider, str(number)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return float(done.stdout)


def main() -> None:
    """Post so many e-mails to an address, which are the arguments; print e-mails a second."""
    url, mails = sys.argv[1], int(sys.argv[2])
    http = httpx2.Client(timeout=10)
    variables = {"name": "Ada Lovelace"}
    http.post(url, json={})  # connects
    started_at = time.perf_counter()
    for number in range(mails):
        mail = {"to": f"{number}@example.com", "template": "welcome", "variables": variables}
        http.post(url, json=mail, headers={"Idempotency-Key": str(uuid7())})
    print(mails / (time.perf_counter() - started_at))
    http.close()


if __name__ == "__main__":
    main()
