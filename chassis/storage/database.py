"""The database: one pool, two kinds of connection, PostgreSQL and SQLite alike."""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from math import ceil
from typing import Any, Self
from uuid import UUID

from sqlalchemy import (
    URL,
    Connection,
    DateTime,
    Dialect,
    Engine,
    MetaData,
    QueuePool,
    StaticPool,
    create_engine,
    event,
    exc,
    make_url,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Session, sessionmaker
from sqlalchemy.types import TypeDecorator

from chassis.errors import Unavailable
from chassis.storage.copying import support_copy

# Rows that a streamed result holds in memory.
STREAMED_ROWS = 1000
SNAPSHOT = "ISOLATION LEVEL REPEATABLE READ READ ONLY"
# The bits of a UUID of version 7 that are neither time nor version nor variant.
_UUID7_RANDOM = 0xFFF << 64 | (1 << 62) - 1


class UtcDateTime(TypeDecorator[datetime]):
    """A point in time, always aware and in UTC.

    SQLite stores no zone; what it returns is the UTC value written here.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Turn an aware time into UTC; a naive one is a bug."""
        if value is None:
            return None
        if value.tzinfo is None:
            msg = "a naive datetime has no place in the database; make it aware"
            raise ValueError(msg)
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return an aware time in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if dialect.name == "sqlite" else value.astimezone(UTC)


class Base(DeclarativeBase):
    """Tables register here; constraints get names that migrations can refer to."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {datetime: UtcDateTime}  # noqa: RUF012 - SQLAlchemy reads it off the class


def uuid7() -> UUID:
    """Make a time-ordered UUID (RFC 9562, version 7): inserts stay at one end of the index."""
    milliseconds = time.time_ns() // 1_000_000
    return UUID(int=_uuid7(milliseconds, os.urandom(10)))


def uuid7_batch(number: int) -> list[str]:
    """Make so many at once, ascending, as hexadecimal digits: a quarter of the CPU of each."""
    milliseconds = time.time_ns() // 1_000_000
    random = os.urandom(10 * number)
    parts = (random[start : start + 10] for start in range(0, len(random), 10))
    return sorted([f"{_uuid7(milliseconds, part):032x}" for part in parts])


def _uuid7(milliseconds: int, random: bytes) -> int:
    fixed = milliseconds << 80 | 0x7 << 76 | 0b10 << 62
    return fixed | int.from_bytes(random) & _UUID7_RANDOM


def violates_unique(error: exc.IntegrityError, table: str, column: str) -> bool:
    """Tell whether it is this unique index that refused: PostgreSQL names it, SQLite the column."""
    message = str(error.orig)
    return f'"uq_{table}_{column}"' in message or f"{table}.{column}" in message


def with_driver(url: str) -> URL:
    """Parse a database URL; postgres:// and postgresql:// both mean psycopg2."""
    parsed = make_url(url)
    if parsed.drivername in {"postgres", "postgresql"}:
        return parsed.set(drivername="postgresql+psycopg2")
    return parsed


class DatabaseManager:
    """Connections to one database, thread-safe; opened on first use.

    Every pooled connection rests in the driver's autocommit mode. `connection()` uses it as
    it is: one round trip a statement. `transaction()` leaves the mode for one transaction.
    Both draw on the same pool, so a process never holds more than size plus overflow.
    """

    def __init__(  # noqa: PLR0913 - one argument for each limit, all by name
        self,
        url: str,
        *,
        pool_size: int = 10,
        max_overflow: int = 20,
        pool_timeout: timedelta = timedelta(seconds=2),
        connect_timeout: timedelta = timedelta(seconds=2),
        statement_timeout: timedelta = timedelta(seconds=5),
        application_name: str = "",
    ) -> None:
        self._url = with_driver(url)
        self._pool_options = _pool_options(
            self._url.database, pool_size, max_overflow, pool_timeout
        )
        if not self.is_sqlite:
            self._pool_options["connect_args"] = _postgresql_arguments(
                connect_timeout, statement_timeout, application_name
            )
            # Changes to many rows go out together, not one round trip each.
            self._pool_options["executemany_mode"] = "values_plus_batch"
        self._patience_seconds = statement_timeout.total_seconds() + 1
        self._in_use: dict[int, tuple[Any, float]] = {}
        self._engine: Engine | None = None
        self._transactional: Engine | None = None

    @property
    def is_sqlite(self) -> bool:
        """Whether this is the embedded database."""
        return self._url.get_backend_name() == "sqlite"

    @property
    def engine(self) -> Engine:
        """The autocommit engine, for instrumentation and migrations."""
        if self._engine is None:
            msg = "the database is not initialized; call DatabaseManager(url).initialize()"
            raise RuntimeError(msg)
        return self._engine

    def initialize(self) -> Self:
        """Set the pool up; no connection is opened yet. Calling it again changes nothing."""
        if self._engine is None:
            self._engine = create_engine(
                self._url,
                isolation_level="AUTOCOMMIT",
                hide_parameters=True,  # they are personal data, and errors are logged
                **self._pool_options,
            )
            # A second face of the same pool: it begins transactions, the first does not.
            self._transactional = self._engine.execution_options()
            (_listen_sqlite if self.is_sqlite else _listen_postgresql)(
                self._engine, self._transactional
            )
            if not self.is_sqlite:
                support_copy(self._engine.dialect)
                if self._patience_seconds > 1:
                    self._watch(self._engine)
        return self

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """Yield a connection on which each statement stands, and commits, alone.

        Raises:
            Unavailable: no connection in time, or it broke.
        """
        with _outages(), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Yield a connection whose statements happen together, or not at all.

        Raises:
            Unavailable: no connection in time, or it broke; nothing was committed,
                unless the connection broke while the commit was on its way.
        """
        with _outages(), self._transactions.begin() as connection:
            yield connection

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """Yield a connection on which all reads see one moment, and large results are streamed.

        Reading may take as long as it takes; `cut_stalled` leaves it alone.

        Raises:
            Unavailable: as for `transaction`.
        """
        # Said in SQL: the driver would remember it for the next user of the connection, and
        # behind PgBouncer for that of another one.
        begin = "BEGIN" if self.is_sqlite else f"SET TRANSACTION {SNAPSHOT}"
        engine = self.engine if self.is_sqlite else self._transactions
        with _outages(), engine.connect() as connection:
            connection.exec_driver_sql(begin)
            self._in_use.pop(id(_driver(connection)), None)
            try:
                yield connection.execution_options(yield_per=STREAMED_ROWS)
            finally:
                # There is nothing to lose, so a connection that broke meanwhile is no failure here.
                with suppress(exc.DBAPIError):
                    if self.is_sqlite:
                        connection.exec_driver_sql("ROLLBACK")
                    connection.rollback()

    @contextmanager
    def get_session(self) -> Iterator[Session]:
        """Yield an ORM session, committed at the end and rolled back on an exception.

        For resources that prefer mapped objects to speed.

        Raises:
            Unavailable: as for `transaction`.
        """
        make_session = sessionmaker(self._transactions, expire_on_commit=False)
        with _outages(), make_session.begin() as session:
            yield session

    def purge(
        self, purge_batch: Callable[[Connection, int], int], *, limit: int = 1000
    ) -> Iterator[int]:
        """Remove rows until there are none left to remove; yield the size of each batch.

        Batches are transactions of their own: locks stay short, and what is done stays done.

        Args:
            purge_batch: Removes at most so many rows and says how many.
            limit: Largest size of a batch.
        """
        while True:
            with self.connection() as connection:
                purged = purge_batch(connection, limit)
            yield purged
            if purged < limit:
                return

    def ping(self) -> None:
        """Make one round trip.

        Raises:
            Unavailable: there was no answer.
        """
        with self.connection() as connection:
            connection.execute(text("SELECT 1"))

    def pool_usage(self) -> dict[str, int]:
        """Return how many connections are in use, how many are idle, and how many there may be."""
        pool = self.engine.pool
        if not isinstance(pool, QueuePool):
            return {"in_use": 0, "idle": 0, "limit": 1}
        limit = self._pool_options["pool_size"] + self._pool_options["max_overflow"]
        return {"in_use": pool.checkedout(), "idle": pool.checkedin(), "limit": limit}

    def cut_stalled(self) -> None:
        """Cut the connections that have been in use for longer than any statement may take.

        A server process that is frozen still acknowledges what it is sent, so no timeout of
        the network or the server applies. Whoever waits on the connection gets Unavailable.
        """
        now = time.monotonic()
        stalled = [each for each, deadline in list(self._in_use.values()) if deadline < now]
        for connection in stalled:
            # It may be closed by its user at this very moment, which is as good.
            with suppress(OSError, self.engine.dialect.loaded_dbapi.Error):
                _hang_up(connection.fileno())

    def close(self) -> None:
        """Close the pool; connections in use are closed when they come back."""
        if self._engine is not None:
            self._engine.dispose()

    def _watch(self, engine: Engine) -> None:
        """Remember since when connections are in use, for `cut_stalled`."""

        @event.listens_for(engine, "checkout")
        def _begin(connection: Any, _record: Any, _proxy: Any) -> None:
            self._in_use[id(connection)] = (connection, time.monotonic() + self._patience_seconds)

        @event.listens_for(engine, "reset")
        def _end(connection: Any, _record: Any, _state: Any) -> None:
            self._in_use.pop(id(connection), None)

        @event.listens_for(engine, "close")
        def _forget(connection: Any, _record: Any) -> None:
            self._in_use.pop(id(connection), None)

    @property
    def _transactions(self) -> Engine:
        _ = self.engine
        assert self._transactional is not None  # noqa: S101 - set together with the engine
        return self._transactional


@contextmanager
def _outages() -> Iterator[None]:
    """Tell an outage from a bug: the first is worth trying again, the second is a 500."""
    try:
        yield
    except (exc.OperationalError, exc.InterfaceError, exc.TimeoutError) as error:
        # SQLite's driver raises OperationalError for bad SQL and missing tables as well.
        if getattr(getattr(error, "orig", None), "sqlite_errorname", None) == "SQLITE_ERROR":
            raise
        raise Unavailable from error


def _pool_options(
    database: str | None, size: int, overflow: int, timeout: timedelta
) -> dict[str, Any]:
    if database in {None, "", ":memory:"}:
        return {"poolclass": StaticPool}  # an SQLite database that lives in its one connection
    return {
        "pool_size": size,
        "max_overflow": overflow,
        "pool_timeout": timeout.total_seconds(),
        "pool_recycle": 3600,
        "pool_use_lifo": True,  # lets surplus connections idle out at the server
    }


def _postgresql_arguments(
    connect_timeout: timedelta, statement_timeout: timedelta, application_name: str
) -> dict[str, Any]:
    settings = {
        "timezone": "UTC",
        "statement_timeout": round(statement_timeout.total_seconds() * 1000),
        # A client that stalls inside a transaction must not hold its locks for ever.
        "idle_in_transaction_session_timeout": 60_000,
    }
    return {
        "connect_timeout": max(1, ceil(connect_timeout.total_seconds())),  # 0 is without end
        "application_name": application_name,
        "options": " ".join(f"-c {name}={value}" for name, value in settings.items()),
        # Notice a peer that vanished without a word in seconds instead of hours.
        "keepalives_idle": 30,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 10_000,
    }


def _listen_sqlite(engine: Engine, transactional: Engine) -> None:
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
        # IMMEDIATE: a reader that turns writer half-way would fail instead of waiting its turn.
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _listen_postgresql(engine: Engine, transactional: Engine) -> None:
    @event.listens_for(engine, "checkout")
    def _refuse_dead(connection: Any, _record: Any, _proxy: Any) -> None:
        # A server that went away has closed its end, which makes an idle socket readable:
        # this costs a system call where a ping would cost a round trip.
        poll = select.poll()
        poll.register(connection.fileno(), select.POLLIN)
        if poll.poll(0):
            raise exc.DisconnectionError

    @event.listens_for(transactional, "begin")
    def _begin(connection: Connection) -> None:
        # The driver sends BEGIN with the next statement; unlike SQLAlchemy's
        # isolation level option this sends nothing of its own.
        _driver(connection).autocommit = False

    @event.listens_for(engine, "checkin")
    def _rest(connection: Any, _record: Any) -> None:
        if connection is not None and not connection.autocommit:
            connection.autocommit = True


def _hang_up(descriptor: int) -> None:
    with socket.socket(fileno=os.dup(descriptor)) as peer:
        peer.shutdown(socket.SHUT_RDWR)


def _driver(connection: Connection) -> Any:
    return connection.connection.dbapi_connection
