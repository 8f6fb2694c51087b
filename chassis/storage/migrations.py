"""The schema's revision: the database's, the code's, and the migrations between the two."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import Column, Connection, inspect, text

from chassis.errors import Unavailable
from chassis.once import once
from chassis.storage.database import DatabaseManager
from chassis.storage.failures import SchemaBehind

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy.types import TypeEngine

DIRECTORY = Path(__file__).resolve().parents[2] / "migrations"
LOCK = 0x75736572  # any number, the same in every process
POLL_SECONDS = 0.2
REMEDY = "run: python app.py admin migrate"  # for a schema that is behind
# A migration that waits for a table makes all later readers wait behind it.
LOCK_TIMEOUT = "10s"


class NoWay(ValueError):
    """A migration that cannot be, or loses data and was not meant to; the text is a sentence."""


class Way(NamedTuple):
    """The revisions between two, in the order of their steps; one of the lists is empty."""

    applied: list[str]
    reverted: list[str]


@once
def revisions() -> dict[str, str | None]:
    """Return revision -> the one before it, read from the files.

    Alembic could read them as well, but importing it costs a web process more time and memory
    than all of the service's own code.
    """
    found = {}
    for file in sorted((DIRECTORY / "versions").glob("*.py")):
        source = file.read_text(encoding="utf-8")
        names = dict(
            re.findall(r'^(revision|down_revision)\b[^=]*= "?(\w+)"?$', source, re.MULTILINE)
        )
        found[names["revision"]] = (
            None if names["down_revision"] == "None" else names["down_revision"]
        )
    return found


@once
def head() -> str:
    """Return the revision that this code was written for."""
    (last,) = set(revisions()) - set(revisions().values())
    return last


def current(database: DatabaseManager) -> str | None:
    """Return the database's revision; None before the first migration.

    Raises:
        Unavailable: the database did not answer.
    """
    with database.connection() as connection:
        return _current(connection)


def is_behind(database: DatabaseManager) -> bool:
    """Tell whether the database lacks a migration.

    A revision that this code does not know comes from newer code. Migrations are compatible
    with the release before them, so old pods stay ready during a rollout.

    Raises:
        Unavailable: the database did not answer.
    """
    revision = current(database)
    return revision is None or revision in set(revisions()) - {head()}


def require_current(database: DatabaseManager) -> None:
    """Refuse to go on with a schema that is behind.

    Raises:
        SchemaBehind: the schema is behind.
        Unavailable: the database did not answer.
    """
    if is_behind(database):
        raise SchemaBehind(f"{SchemaBehind.title}; {REMEDY}")


def pending(database: DatabaseManager) -> list[str]:
    """Return the revisions that `upgrade` would apply, in their order.

    Raises:
        Unavailable: the database did not answer.
    """
    return _after(current(database))


def upgrade(database: DatabaseManager, *, patience: timedelta = timedelta(minutes=5)) -> list[str]:
    """Bring the schema up to date; any number of processes may do so at once.

    Returns:
        The revisions that this call applied.

    Raises:
        Unavailable: the database did not answer, or another process held the lock too long.
    """
    if not pending(database):
        return []
    with _lock(database, patience):
        return _run_alembic(database)


def move(
    database: DatabaseManager,
    revision: str,
    *,
    may_revert: bool,
    patience: timedelta = timedelta(minutes=5),
) -> Way:
    """Bring the schema to a revision, an older one included; return the way that was gone.

    Going back removes the tables and columns that newer revisions added, with their content.

    Raises:
        NoWay: this code does not have the revision, or the database's own; or the way goes back.
        Unavailable: as for `upgrade`.
    """
    with _lock(database, patience), migrating(database) as connection:
        way = _way(_current(connection), revision)
        if way.reverted and not may_revert:
            reverted = ", ".join(way.reverted)
            raise NoWay(f"This reverts {reverted}, with what they store; repeat it with --yes")
        _run(database, connection, way, revision)
        return way


def way_to(database: DatabaseManager, revision: str) -> Way:
    """Return the way that `move` would go.

    Raises:
        NoWay: this code does not have one of the revisions.
        Unavailable: the database did not answer.
    """
    return _way(current(database), revision)


def alembic_config(connection: Connection | None = None) -> Config:
    """Return Alembic's configuration, bound to a connection when there is one."""
    from alembic.config import Config  # noqa: PLC0415 - see `revisions`

    config = Config()
    config.set_main_option("script_location", str(DIRECTORY))
    config.attributes["connection"] = connection
    return config


@contextmanager
def migrating(database: DatabaseManager) -> Iterator[Connection]:
    """Yield a connection for Alembic to run migrations on.

    On PostgreSQL Alembic begins and commits by itself, so that a migration can leave its
    transaction; on SQLite all migrations are one transaction.

    Raises:
        Unavailable: as for `DatabaseManager.transaction`.
    """
    if database.is_sqlite:
        with database.transaction() as connection:
            yield connection
        return
    with database.connection() as connection:
        connection.execute(text("SET statement_timeout = 0"))
        connection.execute(text(f"SET lock_timeout = '{LOCK_TIMEOUT}'"))
        connection.commit()
        try:
            yield connection.execution_options(isolation_level="READ COMMITTED")
        finally:
            connection.invalidate()  # closes it, because its settings must not be used again


@contextmanager
def outside_transaction() -> Iterator[None]:
    """Leave a migration's transaction, for statements that PostgreSQL refuses inside of one.

    The earlier statements of the migration are committed. If a later one fails, the migration
    runs again from its beginning. Other databases stay in their transaction.
    """
    from alembic import op  # noqa: PLC0415 - see `revisions`

    if op.get_context().dialect.name != "postgresql":
        yield
        return
    with op.get_context().autocommit_block():
        # CREATE INDEX CONCURRENTLY may wait long for other transactions, but blocks none.
        op.execute("SET lock_timeout = 0")
        yield
        op.execute(f"SET lock_timeout = '{LOCK_TIMEOUT}'")


def add_columns(table: str, columns: Mapping[str, TypeEngine[Any]]) -> None:
    """Add columns that may be NULL; those that a first attempt has added stay as they are."""
    from alembic import op  # noqa: PLC0415 - see `revisions`

    there = {each["name"] for each in inspect(op.get_bind()).get_columns(table)}
    for name, kind in columns.items():
        if name not in there:
            op.add_column(table, Column(name, kind, nullable=True))


def _run_alembic(database: DatabaseManager) -> list[str]:
    with migrating(database) as connection:
        # Asked again under the lock: another process may have migrated the database meanwhile.
        missing = _after(_current(connection))
        _run(database, connection, Way(missing, []), "head")
        return missing


def _run(database: DatabaseManager, connection: Connection, way: Way, revision: str) -> None:
    from alembic import command  # noqa: PLC0415 - see `revisions`

    if not (way.applied or way.reverted):
        return
    if not database.is_sqlite:
        connection.commit()  # Alembic would leave an open transaction to its caller
    go = command.downgrade if way.reverted else command.upgrade
    go(alembic_config(connection), revision)


@contextmanager
def _lock(database: DatabaseManager, patience: timedelta) -> Iterator[None]:
    """Hold an advisory lock of the session, on a connection outside of any transaction.

    A process that waits for the lock asks again and again. If it waited inside the database, it
    would hold a snapshot, and CREATE INDEX CONCURRENTLY would wait for that snapshot for ever.
    """
    if database.is_sqlite:
        yield  # BEGIN IMMEDIATE is the lock there
        return
    deadline = time.monotonic() + patience.total_seconds()
    with database.connection() as connection:
        while not connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": LOCK}):
            if time.monotonic() >= deadline:
                raise Unavailable("Another process is migrating the database")
            time.sleep(POLL_SECONDS)
        try:
            yield
        finally:
            connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": LOCK})


def _after(revision: str | None) -> list[str]:
    """Return the revisions after a given one, in their order; none after an unknown one."""
    if revision is not None and revision not in revisions():
        return []
    missing: list[str] = []
    step: str | None = head()
    while step is not None and step != revision:
        missing.insert(0, step)
        step = revisions()[step]
    return missing


def _way(start: str | None, end: str) -> Way:
    order = _after(None)
    if end not in order:
        raise NoWay(f"There is no revision {end}; there are {', '.join(order)}")
    if start is not None and start not in order:
        raise NoWay(
            f"The database is at revision {start}, which this release does not know: "
            "take the release that does"
        )
    here, there = (order.index(start) + 1 if start else 0), order.index(end) + 1
    return Way(applied=order[here:there], reverted=order[there:here][::-1])


def _current(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return revision
