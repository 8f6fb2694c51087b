"""SQLite, embedded: how its connections are set up, and how transactions begin."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, event

BUSY_MILLISECONDS = 5000
POLL_SECONDS = 0.01


def anchored(url: URL, folder: Path) -> URL:
    """Return the URL of the same file for every process, wherever it was started.

    Args:
        url: Of any database; others than SQLite's files stay as they are.
        folder: Where a relative path begins.
    """
    path = url.database or ""
    if url.get_backend_name() != "sqlite" or path in {"", ":memory:"}:
        return url
    if path.startswith("file:") and "uri" in url.query:
        return url.set(database=_anchored_uri(path, url.query.get("mode"), folder))
    return url.set(database=str(folder / path))


def _anchored_uri(uri: str, mode: object, folder: Path) -> str:
    path = uri.removeprefix("file:")
    if path.startswith(("/", ":memory:")) or mode == "memory":
        return uri
    return f"file:{quote(str(folder))}/{path}"


def listen(engine: Engine, transactional: Engine) -> None:
    """Prepare each new connection, and begin the transactions of the second engine."""

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        connection.execute(f"PRAGMA busy_timeout={BUSY_MILLISECONDS}")
        _use_write_ahead_log(connection)
        for pragma in ("synchronous=NORMAL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(transactional, "begin")
    def _begin(connection: Connection) -> None:
        # IMMEDIATE, because a reader that begins to write later fails instead of waiting.
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _use_write_ahead_log(connection: sqlite3.Connection) -> None:
    """Let readers and a writer work side by side; the file remembers it.

    For the change of a new file SQLite does not wait as it does for other locks.
    """
    deadline = time.monotonic() + BUSY_MILLISECONDS / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(POLL_SECONDS)
        else:
            return
