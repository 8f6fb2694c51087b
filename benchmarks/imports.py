"""Many users in by import and the same out by export: how fast, in how much memory, how exactly."""

from __future__ import annotations

import http.client
import io
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from benchmarks import processes
from benchmarks.database import Database, checkpoint
from benchmarks.progress import Progress
from benchmarks.servers import HEADERS, HOST, Server, running
from benchmarks.subjects import OURS, SERVICE
from chassis.storage.ids import uuid7
from tests.support.servers import PostgreSQLServer

WORKER = replace(OURS, key="import_worker", label="the worker", command=(*SERVICE, "worker"))
USERS = 100_000
FEW_USERS = 10_000
# Factor by which the peak of memory may grow with ten times as many users.
FLAT = 1.25
# More users than can be imported in a second.
MORE_PER_SECOND = 90_000
DEADLINE_SECONDS = 300
POLL_SECONDS = 0.05
COLUMNS = (
    *("id", "email", "email_key", "name", "status", "signup_source", "tier"),
    *("is_superuser", "version", "created_at", "updated_at"),
)

People = list[dict[str, str]]


class Failed(Exception):
    """The exported users differ from the imported ones, or the import took too much."""


def people(number: int) -> People:
    """Make users up; names are not all ASCII."""
    return [
        {
            "email": f"imported{each}@example{each % 50}.com",
            "name": f"Zo\u00eb Example {each}" if each % 10 == 0 else f"Grown User {each}",
            "source": ("web", "mobile", "partner")[each % 3],
            "tier": ("free", "pro")[each % 2],
        }
        for each in range(number)
    ]


def measure_speed(
    postgresql: PostgreSQLServer, collector: str, *, rounds: int, progress: Progress
) -> Iterator[dict[str, Any]]:
    """Yield users a second of COPY, of an import and of an export, round by round."""
    database = Database(postgresql, "import_speed")
    new = people(USERS)
    upload, table = lines(new), _table(new)

    def emptied() -> None:
        database.execute("TRUNCATE users, jobs, outbox_messages CASCADE")
        checkpoint(postgresql)

    with service(database, collector) as (web, _worker):
        for number in range(rounds + 1):
            progress.step(f"COPY, import and export of {USERS:,} users", 10)
            emptied()
            copied = _timed(lambda: database.copy("users", COLUMNS, table))
            emptied()
            imported = _timed(lambda: _await_end(web, send(web, upload)))
            exported = _timed(lambda: _export(web))
            if number:  # the first starts the processes of the pool
                for subject, taken in (
                    ("copy", copied),
                    ("import", imported),
                    ("export", exported),
                ):
                    yield _row(subject, round=number, per_second=USERS / taken)


def measure_memory(
    postgresql: PostgreSQLServer, collector: str, progress: Progress
) -> Iterator[dict[str, Any]]:
    """Yield the peaks of web and worker over few and over many users, who come out as they went in.

    Raises:
        Failed: they do not, or memory grows with their number.
    """
    peaks: dict[str, list[float]] = {"web": [], "worker": []}
    for number in (FEW_USERS, USERS):
        progress.step(f"{number:,} users in and out", number / 10_000 + 5)
        database = Database(postgresql, f"import_memory_{number}")
        with service(database, collector) as (web, worker):
            _round_trip(web, people(number), lambda: None)
            for name, server in (("web", web), ("worker", worker)):
                peaks[name].append(processes.peak_bytes(server.process.pid) / 2**20)
                yield _row(name, users=number, peak_mib=peaks[name][-1])
    for name, (few, many) in peaks.items():
        if many > few * FLAT:
            raise Failed(f"{name} needs {many:.0f} MiB for many users and {few:.0f} for few")


def import_of(seconds: float, web: Server, collector: str) -> Callable[[Database], Any]:
    """Return what imports users by a worker for so long, while the web process takes requests.

    The block begins when the import is under way, and fails if it is over before the block is.
    """
    upload = lines(people(round(seconds * MORE_PER_SECOND)))

    @contextmanager
    def run(database: Database) -> Iterator[None]:
        # Else the worker would be at work on the messages of all earlier registrations.
        database.execute("TRUNCATE jobs, outbox_messages CASCADE")
        with running(WORKER, database=database, collector=collector):
            job = send(web, upload)
            await_true(lambda: database.value("SELECT count(*) FROM jobs WHERE done_bytes > 0"))
            yield
            state = web.ask("GET", job).document["state"]
        database.execute("DELETE FROM users WHERE email LIKE 'imported%'")
        database.execute("TRUNCATE jobs, outbox_messages CASCADE")
        if state != "running":
            raise Failed(f"The import was {state} before the requests were over")

    return run


def check_killed(postgresql: PostgreSQLServer, collector: str, progress: Progress) -> None:
    """Kill the worker half-way and go on with another.

    Raises:
        Failed: a user is missing, or is there twice.
    """
    progress.step(f"{USERS:,} users in and out, the worker killed half-way", 30)
    database = Database(postgresql, "import_killed")
    another = running(WORKER, database=database, collector=collector)
    with service(database, collector) as (web, worker), another:

        def kill() -> None:
            half = "SELECT count(*) FROM jobs WHERE done_bytes * 2 > total_bytes"
            await_true(lambda: database.value(half))
            os.killpg(worker.process.pid, signal.SIGKILL)

        _round_trip(web, people(USERS), kill)


def _round_trip(web: Server, new: People, meanwhile: Callable[[], None]) -> None:
    job = send(web, lines(new))
    meanwhile()
    report = _await_end(web, job)
    found = [json.loads(line) for line in _export(web).splitlines()]
    given, got = (Counter(map(_key, each)) for each in (new, found))
    if report["created"] != len(new) or given != got:
        missing, surplus = (given - got).total(), (got - given).total()
        raise Failed(f"{missing} users are missing, {surplus} are too many; {report}")


@contextmanager
def service(database: Database, collector: str) -> Iterator[tuple[Server, Server]]:
    """Run a web process and a worker."""
    with (
        running(OURS, database=database, collector=collector, WEB_CONCURRENCY="1") as web,
        running(WORKER, database=database, collector=collector) as worker,
    ):
        web.await_answer()
        yield web, worker


def send(web: Server, upload: bytes) -> str:
    """Upload users and return where the job is."""
    kind = {"Content-Type": "application/x-ndjson"}
    connection = http.client.HTTPConnection(HOST, web.port, timeout=60)
    connection.request("POST", "/users/import", io.BytesIO(upload), {**HEADERS, **kind})
    response = connection.getresponse()
    answer = response.read()
    connection.close()
    if response.status != http.HTTPStatus.ACCEPTED:
        raise Failed(f"The upload was answered {response.status}: {answer.decode()}")
    return str(response.headers["Location"])


def _await_end(web: Server, job: str) -> dict[str, Any]:
    """Wait until a job is over."""
    report: dict[str, Any] = {}

    def is_over() -> bool:
        report.update(web.ask("GET", job).document)
        return report["state"] not in {"queued", "running"}

    await_true(is_over)
    return report


def await_true(condition: Callable[[], object]) -> None:
    """Wait until something is so.

    Raises:
        Failed: it takes too long.
    """
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise Failed(f"It did not come about within {DEADLINE_SECONDS} s")
        time.sleep(POLL_SECONDS)


def _export(web: Server) -> bytes:
    connection = http.client.HTTPConnection(HOST, web.port, timeout=60)
    connection.request("GET", "/users/export", headers=HEADERS)
    content = connection.getresponse().read()
    connection.close()
    return content


def lines(new: People) -> bytes:
    """Return users as an upload."""
    return "".join(json.dumps(each) + "\n" for each in new).encode()


def _table(new: People) -> str:
    """Return users as COPY reads them."""
    now = datetime.now(UTC).isoformat()
    rows = (
        (
            uuid7(),
            each["email"],
            each["email"],
            each["name"],
            "active",
            each["source"],
            each["tier"],
        )
        for each in new
    )
    return "".join("\t".join(map(str, (*row, "f", 1, now, now))) + "\n" for row in rows)


def _key(user: dict[str, str]) -> tuple[str, ...]:
    return tuple(user[name] for name in ("email", "name", "source", "tier"))


def _timed(work: Callable[[], object]) -> float:
    started_at = time.perf_counter()
    work()
    return time.perf_counter() - started_at


def _row(subject: str, **figures: Any) -> dict[str, Any]:
    return {"suite": "import", "subject": subject, **figures}
