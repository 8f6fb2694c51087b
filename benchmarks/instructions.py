"""How many instructions a request takes: a figure that no neighbour on the machine disturbs.

Valgrind's callgrind counts a worker of the service, from the bytes that arrive on a kept connection
to those that leave: server, threads, application, driver, telemetry. PostgreSQL, the client and the
kernel are not counted, and no trace is recorded.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from itertools import count, islice
from pathlib import Path
from typing import Any

from benchmarks.database import Database
from benchmarks.load import Connection
from benchmarks.marked import MARK
from benchmarks.progress import Progress
from benchmarks.servers import HEADERS, HOST, running
from benchmarks.subjects import ENVIRONMENTS, NOT_EXPORTED, OURS, PYTHON, Subject

FOLDER = ENVIRONMENTS / "callgrind"
WARM_UP = 50
MARKS = 10  # until what a mark costs stays the same
COUNTED = 200
SECONDS = 120
START_SECONDS = 600

CALLGRIND = (
    *("valgrind", "--tool=callgrind", "--dump-before=getloadavg"),
    f"--callgrind-out-file={FOLDER / 'out'}.%p",
)
COUNTED_SERVICE = replace(
    OURS,
    key="counted",
    label="this service under callgrind",
    command=(*CALLGRIND, PYTHON, "-m", "benchmarks.marked"),
    environment={
        **OURS.environment,
        "PYTHONHASHSEED": "0",
        "WEB_CONCURRENCY": "1",
        "OTEL_TRACES_SAMPLER_ARG": "0",  # chance would sample more in one run than in another
        "OTEL_METRIC_EXPORT_INTERVAL": "3600000",
    },
)
RECORDED_SERVICE = replace(
    COUNTED_SERVICE,
    environment={**COUNTED_SERVICE.environment, "OTEL_TRACES_SAMPLER_ARG": "1"},
)


def _silent(kind: str) -> Subject:
    return replace(
        COUNTED_SERVICE,
        command=(*COUNTED_SERVICE.command, kind),
        environment={**COUNTED_SERVICE.environment, **NOT_EXPORTED},
    )


CONDITIONS = {
    "the worker, and an answer that is ready": _silent("ready"),
    "the worker, and a view of Flask": _silent("view"),
    "the worker, and a view of Flask with the statement": _silent("statement"),
    "the service without any telemetry": _silent("silent"),
    "the service, no trace recorded": COUNTED_SERVICE,
    "the service, all traces recorded": RECORDED_SERVICE,
}

_TOTAL = re.compile(r"^totals: (\d+)", re.MULTILINE)
_REGISTRATION = '{{"email":"counted{:06}@example.com","name":"Ada Lovelace"}}'


def measure(database: Database, collector: str, progress: Progress) -> Iterator[dict[str, Any]]:
    """Yield a row for POST /users and one for GET /users/{id}.

    Raises:
        FileNotFoundError: valgrind is not installed.
    """
    progress.step("counting under callgrind", SECONDS)
    for workload, instructions in _count(COUNTED_SERVICE, database, collector).items():
        yield {"suite": "instructions", "workload": workload, "instructions": instructions}


def measure_telemetry(
    database: Database, collector: str, progress: Progress
) -> Iterator[dict[str, Any]]:
    """Yield the same for parts of the service, and with none and all traces recorded.

    Raises:
        FileNotFoundError: valgrind is not installed.
    """
    for condition, subject in CONDITIONS.items():
        progress.step(f"counting under callgrind, {condition}", SECONDS)
        for workload, instructions in _count(subject, database, collector).items():
            names = {"subject": condition, "workload": workload}
            yield {"suite": "telemetry", **names, "instructions": instructions}


def _count(subject: Subject, database: Database, collector: str) -> dict[str, int]:
    if shutil.which("valgrind") is None:
        raise FileNotFoundError("make bench-instructions needs valgrind")
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    database.execute("TRUNCATE users, outbox_messages CASCADE")
    database.grow(1, 1)
    with running(subject, database=database, collector=collector) as server:
        server.await_answer(START_SECONDS)
        _send_all(server.port, str(database.value("SELECT id::text FROM users")))
    return dict(zip(("W1", "W2"), counts(FOLDER), strict=True))


def _send_all(port: int, user_id: str) -> None:
    """Send one request after the other, with marks around those to count.

    The first two marks have nothing between them: what a mark itself costs is counted there.
    """
    connection = Connection(port)
    posts = (_request(port, "POST", "/users", _REGISTRATION.format(each)) for each in count())
    mark = [_request(port, "GET", MARK)]
    get = _request(port, "GET", f"/users/{user_id}")
    warm = [*islice(posts, WARM_UP), *[get] * WARM_UP]
    parts = [mark * MARKS, mark, [*islice(posts, COUNTED)], mark, [get] * COUNTED, mark]
    for request in (each for part in (warm, *parts) for each in part):
        connection.socket.sendall(request)
        while (answer := connection.answer()) is None:
            pass
        status, is_closing = answer
        if status not in {200, 201} or is_closing:
            raise RuntimeError(f"{request!r} was answered {status}, closing: {is_closing}")
    connection.socket.close()


def _request(port: int, method: str, path: str, body: str = "") -> bytes:
    given = {"Host": f"{HOST}:{port}", **HEADERS}
    if body:
        given |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
    fields = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    return f"{method} {path} HTTP/1.1\r\n{fields}\r\n{body}".encode()


def counts(folder: Path) -> tuple[int, int]:
    """Return the instructions of a POST and of a GET from the parts that callgrind wrote.

    Raises:
        RuntimeError: the parts are not those of one worker with all marks.
    """
    parts = sorted(folder.glob("out.*.*"), key=lambda file: int(file.suffix[1:]))
    if len(parts) < MARKS + 3 or len({file.stem for file in parts}) != 1:
        raise RuntimeError(f"{folder} does not hold the parts of one worker")
    # Each part ends in a mark: so many to warm up, then two around the requests of each kind.
    mark, posts, gets = (_total(parts[number]) for number in range(MARKS, MARKS + 3))
    return round((posts - mark) / COUNTED), round((gets - mark) / COUNTED)


def _total(file: Path) -> int:
    found = _TOTAL.search(file.read_text(encoding="utf-8", errors="replace"))
    if found is None:
        raise RuntimeError(f"{file} holds no total")
    return int(found[1])
