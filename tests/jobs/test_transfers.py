"""Uploads and downloads over real connections: too large, broken off, abandoned."""

from __future__ import annotations

import select
import socket
import struct
from contextlib import closing

import pytest
import requests
from sqlalchemy import func, text
from sqlalchemy import select as sql_select

from chassis.storage.database import DatabaseManager
from tests.conftest import API_KEY
from tests.support.ports import HOST
from tests.support.waiting import DEADLINE_SECONDS, eventually
from tests.support.web import serve
from userservice.jobs.models import Job, JobChunk

pytestmark = [pytest.mark.integration, pytest.mark.slow]

LIMIT = 1_000_000
RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # struct linger: on, zero seconds
FILL = text(
    "INSERT INTO users (id, email, email_key, name, status, signup_source, tier, is_superuser,"
    " version, created_at, updated_at) SELECT gen_random_uuid(), n || '@example.com',"
    " n || '@example.com', repeat('x', 200), 'active', 'web', 'free', false, 1, now(), now()"
    " FROM generate_series(1, 40000) AS n"
)
STREAMING = text(
    "SELECT count(*) FROM pg_stat_activity"
    " WHERE datname = current_database() AND state LIKE 'idle in transaction%'"
)


@pytest.fixture(scope="module")
def web(migrated_postgresql):
    """A web process with room for one transfer."""
    limits = {"TRANSFERS": "1", "IMPORT_MAX_BYTES": str(LIMIT), "WEB_CONCURRENCY": "1"}
    with serve(DATABASE_URL=migrated_postgresql, API_KEY=API_KEY, **limits) as running:
        yield running


@pytest.fixture
def database(postgresql_url):
    """The database of that process, which is empty."""
    with closing(DatabaseManager(postgresql_url).initialize()) as manager:
        yield manager


def count(database, column):
    with database.connection() as connection:
        return connection.scalar(sql_select(func.count(column)))


def head(method, path, *fields):
    lines = [f"{method} {path} HTTP/1.1", "Host: test", f"X-API-Key: {API_KEY}", *fields]
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode()


def first_line(connection):
    return connection.recv(65_536).split(b"\r\n")[0]


def answered(response):
    return response if response.status_code == 200 else None


def test_two_gigabytes_are_refused_before_they_are_sent(web, database):
    with web.connect() as connection:
        connection.sendall(
            head(
                "POST",
                "/users/import",
                "Content-Type: application/x-ndjson",
                "Content-Length: 2147483648",
            )
        )

        answer = first_line(connection)

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert count(database, Job.id) == 0


def test_an_upload_without_a_length_is_refused_when_it_passes_the_limit(web, database):
    chunk = b"%x\r\n%s\r\n" % (65_536, b"x" * 65_536)
    chunked = ("Content-Type: application/x-ndjson", "Transfer-Encoding: chunked")
    sent = 0

    with web.connect() as connection:
        connection.sendall(head("POST", "/users/import", *chunked))
        while sent < 1000 * LIMIT and not select.select([connection], [], [], 0)[0]:
            sent += connection.send(chunk[sent % len(chunk) :])
        answer = first_line(connection)

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert sent < 100 * LIMIT  # which leaves room for what buffers on the way hold
    assert count(database, Job.id) == count(database, JobChunk.start) == 0


@pytest.mark.parametrize(
    ("framing", "beginning"),
    [("Content-Length: 900000", b""), ("Transfer-Encoding: chunked", b"dbba0\r\n")],
)
@pytest.mark.parametrize("is_reset", [False, True])
def test_an_upload_that_breaks_off_leaves_nothing(web, database, framing, beginning, is_reset):
    fields = ("Content-Type: application/x-ndjson", framing)
    with web.connect() as connection:
        if is_reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        start = head("POST", "/users/import", *fields) + beginning
        connection.sendall(start + b"x" * 600_000)
        eventually(lambda: count(database, JobChunk.start))
        if not is_reset:
            connection.shutdown(socket.SHUT_WR)
            answer = first_line(connection)
            assert answer.startswith(b"HTTP/1.1 400 ")

    eventually(lambda: not count(database, Job.id))
    assert count(database, JobChunk.start) == 0
    assert '"level":"ERROR"' not in web.output()


def test_a_client_that_goes_away_in_an_export_leaves_its_place_and_its_connection(web, database):
    with database.connection() as connection:
        connection.execute(FILL)
    url, headers = f"{web.url}/users/export", {"X-API-Key": API_KEY}

    with socket.socket() as leaving:
        leaving.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        leaving.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        leaving.connect((HOST, web.port))
        leaving.sendall(head("GET", "/users/export"))
        answer = first_line(leaving)
        with database.connection() as connection:
            # The process waits for its client, which does not read on.
            eventually(lambda: connection.scalar(STREAMING))
        refused = requests.get(url, headers=headers, timeout=DEADLINE_SECONDS)
    with database.connection() as connection:
        eventually(lambda: not connection.scalar(STREAMING))
    again = eventually(
        lambda: answered(requests.get(url, headers=headers, timeout=DEADLINE_SECONDS))
    )

    assert answer == b"HTTP/1.1 200 OK"
    assert (refused.status_code, "Retry-After" in refused.headers) == (503, True)
    assert again.content.count(b"\n") == 40_000
