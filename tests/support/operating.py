"""The acts of a database's operator."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, create_engine, text

from chassis.storage.database import with_driver

OURS = "application_name = 'cloudnative-user-api'"
END_SESSIONS = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {OURS}"  # noqa: S608 - text from here


@contextmanager
def operating(database_url: str) -> Iterator[Connection]:
    """Yield an operator's connection; each statement stands alone."""
    engine = create_engine(with_driver(database_url), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        yield connection
    engine.dispose()


@contextmanager
def read_only(database_url: str) -> Iterator[None]:
    """Let the server take no changes, in sessions that begin meanwhile for as long as they live."""
    with operating(database_url) as operator:
        name = f'"{operator.engine.url.database}"'
        setting = "default_transaction_read_only"
        operator.execute(text(f"SET {setting} = off"))
        operator.execute(text(f"ALTER DATABASE {name} SET {setting} = on"))
        operator.execute(text(END_SESSIONS))
        try:
            yield
        finally:
            operator.execute(text(f"ALTER DATABASE {name} RESET {setting}"))
