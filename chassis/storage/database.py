"""The database: one pool with two kinds of connection, for PostgreSQL and SQLite alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

from sqlalchemy import (
    URL,
    Connection,
    Engine,
    QueuePool,
    StaticPool,
    create_engine,
    exc,
    make_url,
    text,
)
from sqlalchemy.orm import Session, sessionmaker

from chassis.network.resolver import LookUp, Resolver, look_up
from chassis.storage import postgresql, sqlite
from chassis.storage.addresses import resolve_hosts
from chassis.storage.copying import support_copy
from chassis.storage.failures import ReadOnly, close_after_last_words, outages
from chassis.storage.prepared import AnyConnection, CompiledStatement, Prepared, PreparedConnection
from chassis.storage.stall_watch import StallWatch

# Rows that a streamed result holds in memory.
STREAMED_ROWS = 1000
SNAPSHOT = "ISOLATION LEVEL REPEATABLE READ READ ONLY"


def with_driver(url: str) -> URL:
    """Parse a database URL; postgres:// and postgresql:// both mean psycopg2."""
    parsed = make_url(url)
    if parsed.drivername in {"postgres", "postgresql"}:
        return parsed.set(drivername="postgresql+psycopg2")
    return parsed


class DatabaseManager:
    """Connections to one database, thread-safe; opened on first use.

    Every pooled connection rests in the driver's autocommit mode. `connection()` uses this mode:
    one round trip for each statement. `transaction()` leaves the mode for one transaction.
    Both draw on the same pool, so a process never holds more connections than size plus overflow.

    Attributes:
        is_sqlite: Whether this is the embedded database.
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
        folder: Path = Path(),
        look_up: LookUp = look_up,
    ) -> None:
        self._resolver = Resolver(look_up)
        self._connect_timeout = connect_timeout
        self._url = sqlite.anchored(with_driver(url), folder)
        self.is_sqlite = self._url.get_backend_name() == "sqlite"
        self._pool_options = _pool_options(
            self._url.database, pool_size, max_overflow, pool_timeout
        )
        if not self.is_sqlite:
            self._pool_options["connect_args"] = postgresql.connect_arguments(
                self._url,
                connect_timeout=connect_timeout,
                statement_timeout=statement_timeout,
                application_name=application_name,
            )
            # Changes to many rows go out together, instead of with a round trip for each row.
            self._pool_options["executemany_mode"] = "values_plus_batch"
        self._has_statement_timeout = bool(statement_timeout)
        self._compiled: dict[Prepared, CompiledStatement] = {}
        self._stall_watch = StallWatch(statement_timeout + timedelta(seconds=1))
        self._engine: Engine | None = None
        self._transactional: Engine | None = None

    @property
    def engine(self) -> Engine:
        """The autocommit engine, for instrumentation and migrations."""
        if self._engine is None:
            msg = "the database is not initialized; call DatabaseManager(url).initialize()"
            raise RuntimeError(msg)
        return self._engine

    def initialize(self) -> Self:
        """Set up the pool without a connection in it. A second call changes nothing."""
        if self._engine is None:
            self._engine = create_engine(
                self._url,
                isolation_level="AUTOCOMMIT",
                hide_parameters=True,  # parameters are personal data, and errors are logged
                **self._pool_options,
            )
            # A second engine on the same pool: this one begins transactions, the first does not.
            self._transactional = self._engine.execution_options()
            (sqlite if self.is_sqlite else postgresql).listen(self._engine, self._transactional)
            close_after_last_words(self._engine)
            if not self.is_sqlite:
                support_copy(self._engine.dialect)
                resolve_hosts(self._engine, self._resolver, self._connect_timeout)
                if self._has_statement_timeout:
                    self._stall_watch.watch(self._engine)
        return self

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """Yield a connection on which each statement commits by itself.

        Raises:
            Unavailable: there was no connection in time, or the connection broke.
        """
        with outages, self.engine.connect() as connection:
            yield connection

    def prepared(self) -> AbstractContextManager[AnyConnection]:
        """Return a connection for prepared statements, each of which commits by itself.

        The block that it is for ends with its return to the pool.

        Raises:
            Unavailable: there was no connection in time, or the connection broke.
        """
        if self.is_sqlite:
            return self.connection()
        return PreparedConnection(self.engine, self._compiled)

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Yield a connection whose statements take effect together, or not at all.

        Raises:
            Unavailable: there was no connection in time, or the connection broke. Nothing was
                committed, unless the connection broke during the commit.
        """
        with outages, self._transactions.begin() as connection:
            yield connection

    def one_statement(self) -> AbstractContextManager[Connection]:
        """Return a connection for work that is one statement on PostgreSQL, and several on SQLite.

        They take effect together, or not at all.

        Raises:
            Unavailable: as for `transaction`.
        """
        return self.transaction() if self.is_sqlite else self.connection()

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """Yield a connection on which all reads see one moment, and large results are streamed.

        Reading may take any time; `cut_stalled` leaves this connection alone.

        Raises:
            Unavailable: as for `transaction`.
        """
        # In SQL, because the driver would keep its own setting for the next block that takes
        # the connection, and behind PgBouncer even for one on another connection.
        begin = "BEGIN" if self.is_sqlite else f"SET TRANSACTION {SNAPSHOT}"
        engine = self.engine if self.is_sqlite else self._transactions
        with outages, engine.connect() as connection:
            connection.exec_driver_sql(begin)
            self._stall_watch.excuse(connection)
            try:
                yield connection.execution_options(yield_per=STREAMED_ROWS)
            finally:
                # A snapshot has nothing to commit, so a connection that broke is no failure.
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
        with outages, make_session.begin() as session:
            yield session

    def purge(
        self, purge_batch: Callable[[Connection, int], int], *, limit: int = 1000
    ) -> Iterator[int]:
        """Remove rows in batches until none is left; yield the size of each batch.

        Each batch is a transaction of its own: locks are short, and a finished batch is kept.

        Args:
            purge_batch: Removes at most the given number of rows; returns how many it removed.
            limit: Largest size of a batch.
        """
        while True:
            with self.transaction() as connection:
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

    def require_writable(self) -> None:
        """Make sure that changes can be stored; SQLite tells only when it is asked for one.

        Raises:
            ReadOnly: they cannot.
            Unavailable: there was no answer.
        """
        if self.is_sqlite:
            return
        with self.connection() as connection:
            if connection.scalar(text("SHOW transaction_read_only")) == "on":
                raise ReadOnly

    def pool_usage(self) -> dict[str, int]:
        """Return how many connections are in use, how many are idle, and how many there may be."""
        pool = self.engine.pool
        if not isinstance(pool, QueuePool):
            return {"in_use": 0, "idle": 0, "limit": 1}
        limit = self._pool_options["pool_size"] + self._pool_options["max_overflow"]
        return {"in_use": pool.checkedout(), "idle": pool.checkedin(), "limit": limit}

    def cut_stalled(self) -> None:
        """Close the sockets that have been in use for longer than any statement may take.

        Threads that wait on such a connection get Unavailable.
        """
        self._stall_watch.cut(self.engine)

    def close(self) -> None:
        """Close the pool; connections in use are closed when they are returned."""
        if self._engine is not None:
            self._engine.dispose()

    @property
    def _transactions(self) -> Engine:
        _ = self.engine
        assert self._transactional is not None  # noqa: S101 - set together with the engine
        return self._transactional


def _pool_options(
    database: str | None, size: int, overflow: int, timeout: timedelta
) -> dict[str, Any]:
    if database in {None, "", ":memory:"}:
        return {"poolclass": StaticPool}  # an in-memory database exists in one connection only
    return {
        "pool_size": size,
        "max_overflow": overflow,
        "pool_timeout": timeout.total_seconds(),
        "pool_recycle": 3600,
        "pool_use_lifo": True,  # lets surplus connections idle out at the server
    }
