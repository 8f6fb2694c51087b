"""SQLite, embedded: how its connections are set up, and how transactions begin."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, event


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
        for pragma in (
            "journal_mode=WAL",
            "synchronous=NORMAL",
            "busy_timeout=5000",
            "foreign_keys=ON",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(transactional, "begin")
    def _begin(connection: Connection) -> None:
        # IMMEDIATE, because a reader that begins to write later fails instead of waiting.
        connection.exec_driver_sql("BEGIN IMMEDIATE")
