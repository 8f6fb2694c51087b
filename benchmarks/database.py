"""One durable PostgreSQL server for all, a database for each, filled as needed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import psycopg2

from tests.support.servers import PostgreSQLServer

ROOT = Path(__file__).resolve().parent.parent

# Ids in the order of time, as the service makes them; the clock stands at the row's number.
FILL = """
    INSERT INTO users (id, email, email_key, name, status, signup_source, tier, is_superuser,
                       version, created_at, updated_at)
    SELECT (lpad(to_hex(n), 12, '0') || '7' || substr(md5(n::text), 1, 3)
                || '8' || substr(md5(n::text), 4, 15))::uuid,
           'grown' || n || '@example.com', 'grown' || n || '@example.com', 'Grown User',
           %(status)s, 'unknown', 'free', false, 1, %(moment)s, %(moment)s
    FROM generate_series(%(first)s, %(last)s) n
"""


class Database:
    """A migrated database on the server."""

    def __init__(self, server: PostgreSQLServer, name: str) -> None:
        self.url = server.url.rsplit("/", 1)[0] + f"/{name}"
        self.server_pid = server.pid
        _execute(server.url, f'CREATE DATABASE "{name}"')
        command = [sys.executable, "app.py", "admin", "migrate"]
        environment = {**os.environ, "DATABASE_URL": self.url}
        subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)

    def execute(self, statement: str, values: dict[str, Any] | None = None) -> None:
        """Run a statement."""
        _execute(self.url, statement, values)

    def rows(self, statement: str, values: dict[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """Return what a query finds."""
        with _cursor(self.url) as cursor:
            cursor.execute(statement, values)
            return list(cursor.fetchall())

    def value(self, statement: str, values: dict[str, Any] | None = None) -> Any:
        """Return the one value that a query finds; None without a row."""
        rows = self.rows(statement, values)
        return rows[0][0] if rows else None

    def grow(self, first: int, last: int, *, status: str = "active", moment: str = "now") -> None:
        """Add users with consecutive numbers."""
        values = {"first": first, "last": last, "status": status, "moment": moment}
        self.execute(FILL, values)
        self.execute("VACUUM ANALYZE users")

    def copy(self, table: str, columns: Sequence[str], text: str) -> None:
        """Add rows the fastest way there is: as lines with tabs between the values."""
        with _cursor(self.url) as cursor:
            cursor.copy_expert(f"COPY {table} ({', '.join(columns)}) FROM STDIN", StringIO(text))

    def written_bytes(self) -> int:
        """Return how much the server has written to its log so far."""
        return int(self.value("SELECT pg_current_wal_lsn() - '0/0'"))


@contextmanager
def durable_server() -> Iterator[PostgreSQLServer]:
    """Run PostgreSQL as in production: what was answered is on the disk."""
    with PostgreSQLServer(durable=True) as server:
        yield server


def checkpoint(server: PostgreSQLServer) -> None:
    """Write out what is pending, so that no one pays for what another wrote."""
    _execute(server.url, "CHECKPOINT")


def _execute(url: str, statement: str, values: dict[str, Any] | None = None) -> None:
    with _cursor(url) as cursor:
        cursor.execute(statement, values)


@contextmanager
def _cursor(url: str) -> Iterator[Any]:
    connection = psycopg2.connect(url)
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            yield cursor
    finally:
        connection.close()
