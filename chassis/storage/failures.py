"""Failures of the database by their codes: outages, and sessions that must not be used again."""

from __future__ import annotations

import sqlite3
from types import TracebackType
from typing import Any

from sqlalchemy import Engine, event, exc

from chassis.errors import AppError, Unavailable

READ_ONLY = "25006"
PERMISSION_DENIED = "42501"

# Beginnings of SQLSTATEs that tell of an outage, which passes without a change of the code.
_OUTAGES = (
    "08",  # the connection
    *(READ_ONLY, "25P03", "25P04"),  # a standby; a transaction that the server ended
    "26",  # a prepared statement that the server does not have (any more)
    "28",  # a role that is refused
    "3F",  # a schema of the search path that is not there
    "40",  # serialization, deadlock
    PERMISSION_DENIED,
    "53",  # disk, memory, connections
    "55P03",  # a lock that was not had in time
    *("57014", "57P"),  # cancelled; shut down, crashed, not up yet
    "58",  # the system below
    "XX",  # internal, corrupted
)
_ABSENT = ("42P01", "42703")  # a table, a column: the schema is behind the code
# A session that met one of these is closed: it remembers what may hold for no other.
_LAST_WORDS = ("08", READ_ONLY, "25P03", "25P04", "26", "57P", "58", "XX")

# Failures that libpq itself reports have no SQLSTATE, and exactly one of these classes.
_OF_CLIENT = {"DatabaseError", "InterfaceError", "OperationalError"}

_SQLITE_OUTAGES = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_INTERNAL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_READONLY,
}
# The file may have been replaced, or made writable, since it was opened.
_SQLITE_LAST_WORDS = {
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_READONLY,
}
_SQLITE_ABSENT = ("no such table", "no such column", "has no column named")


class SchemaBehind(Unavailable):
    """The database lacks a table or a column that the code needs, until it is migrated."""

    title = "The schema is behind"


class ReadOnly(Unavailable):
    """The database takes no changes: a standby, or one that was set so."""

    title = "The database is read-only"


class PrivilegeMissing(Unavailable):
    """The service's role may not do in the database what the request needs, until it is granted."""

    title = "The database denies permission"


_NAMED: dict[str | None, type[Unavailable]] = {
    READ_ONLY: ReadOnly,
    PERMISSION_DENIED: PrivilegeMissing,
    **dict.fromkeys(_ABSENT, SchemaBehind),
}


def sqlstate(error: BaseException | None) -> str | None:
    """Return the code that PostgreSQL gave a failure; None where there is none."""
    return getattr(getattr(error, "orig", error), "pgcode", None)


def as_outage(error: exc.SQLAlchemyError) -> Unavailable | None:
    """Return a failure as something that passes; None for what is a defect of the code."""
    if isinstance(error, exc.TimeoutError):  # of the pool
        return Unavailable()
    if not isinstance(error, exc.DBAPIError):
        return None
    if isinstance(error.orig, sqlite3.Error):
        return _sqlite_outage(error.orig)
    code = sqlstate(error)
    if code is None:
        is_outage = error.connection_invalidated or type(error.orig).__name__ in _OF_CLIENT
    else:
        is_outage = code.startswith((*_OUTAGES, *_ABSENT))
    return _NAMED.get(code, Unavailable)() if is_outage else None


class _Outages:
    """Turns the errors of an outage in its block into Unavailable, a 503.

    Other errors are defects, and a 500. A class, because every request enters it: a generator
    would cost three times as much.
    """

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, _kind: object, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        if isinstance(error, exc.SQLAlchemyError) and (outage := as_outage(error)):
            raise outage from error


outages = _Outages()


def in_one_line(error: AppError) -> str:
    """Return the error's text and, where a driver caused it, the driver's text."""
    reason = driver_says(error)
    return f"{error.detail}: {reason}" if reason else error.detail


def driver_says(error: AppError) -> str:
    """Return the first line of the driver's text behind an outage; empty without one."""
    if not isinstance(error, Unavailable):
        return ""
    return str(getattr(error.__cause__, "orig", None) or "").partition("\n")[0]


def close_after_last_words(engine: Engine) -> None:
    """Have sessions closed that met a failure which the next session may not meet.

    One that finds the database read-only takes all of the pool with it: after a failover they
    all began at the same standby, and would refuse to write for as long as they live.
    """

    @event.listens_for(engine, "handle_error")
    def _handle(context: Any) -> None:
        driver = context.original_exception
        if ends_session(driver) and context.engine is not None and not context.is_disconnect:
            context.is_disconnect = True
            context.invalidate_pool_on_disconnect = is_read_only(driver)


def ends_session(driver: BaseException) -> bool:
    """Tell whether a session that met a driver's error must not be used again."""
    if isinstance(driver, sqlite3.Error):
        return _sqlite_code(driver) in _SQLITE_LAST_WORDS
    return (sqlstate(driver) or "").startswith(_LAST_WORDS)


def is_read_only(driver: BaseException) -> bool:
    """Tell whether a driver's error says that the database takes no changes."""
    if isinstance(driver, sqlite3.Error):
        return _sqlite_code(driver) == sqlite3.SQLITE_READONLY
    return sqlstate(driver) == READ_ONLY


def _sqlite_outage(driver: sqlite3.Error) -> Unavailable | None:
    code = _sqlite_code(driver)
    if code == sqlite3.SQLITE_READONLY:
        return ReadOnly()
    if code == sqlite3.SQLITE_ERROR and any(each in str(driver) for each in _SQLITE_ABSENT):
        return SchemaBehind()
    return Unavailable() if code in _SQLITE_OUTAGES else None


def _sqlite_code(driver: sqlite3.Error) -> int | None:
    """Return the primary code, without the detail in its higher bits."""
    code: int | None = getattr(driver, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF
