"""Faults of PostgreSQL, and of the way to it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import text

from tests.support.chaos.fault import Fault, Happening, Part
from tests.support.chaos.scene import SERVICE, TABLES_OF_SERVICE, Chaos, send
from tests.support.faults import Mode
from tests.support.operating import END_SESSIONS, operating, read_only


@contextmanager
def postgresql_crashes(chaos: Chaos) -> Iterator[None]:
    """End PostgreSQL as a crash would."""
    chaos.database.stop(immediate=True)
    yield
    chaos.database.start()


@contextmanager
def postgresql_restarts(chaos: Chaos) -> Iterator[None]:
    """Restart PostgreSQL in good order."""
    chaos.database.restart()
    yield


@contextmanager
def backends_freeze(chaos: Chaos) -> Iterator[None]:
    """Freeze the server's processes that work for the service, whatever they do."""
    query = "SELECT pid FROM pg_stat_activity WHERE application_name <> '' AND backend_type = :type"
    with operating(chaos.database.url) as operator:
        pids = operator.scalars(text(query), {"type": "client backend"}).all()
    for pid in pids:
        send(pid, signal.SIGSTOP)
    yield
    for pid in pids:
        send(pid, signal.SIGCONT)


@contextmanager
def database_only_reads(chaos: Chaos) -> Iterator[None]:
    """Let the database be read-only, as a standby is."""
    with read_only(chaos.database.url):
        yield


def role(loses: str, gets: str) -> Happening:
    """Return a fault of the service's role: a statement that begins it, and one that ends it."""

    @contextmanager
    def fault(chaos: Chaos) -> Iterator[None]:
        with operating(chaos.database.url) as operator:
            operator.execute(text(loses))
            operator.execute(text(END_SESSIONS))
            yield
            operator.execute(text(gets))

    return fault


def through(mode: Mode) -> Happening:
    """Return a fault of the way to the database."""

    @contextmanager
    def fault(chaos: Chaos) -> Iterator[None]:
        with chaos.proxy.behaving(mode):
            yield

    return fault


def _fault(happening: Happening) -> Fault:
    return Fault(happening, frozenset({Part.DATABASE}), may_repeat=True)


FAULTS = {
    "PostgreSQL crashes": _fault(postgresql_crashes),
    "PostgreSQL restarts": _fault(postgresql_restarts),
    "PostgreSQL's processes freeze": _fault(backends_freeze),
    "PostgreSQL is read-only": _fault(database_only_reads),
    "the service's role is refused": _fault(
        role(f"ALTER ROLE {SERVICE} NOLOGIN", f"ALTER ROLE {SERVICE} LOGIN")
    ),
    "the service's role loses its rights": _fault(
        role(
            f"REVOKE ALL ON {TABLES_OF_SERVICE} FROM {SERVICE}",
            f"GRANT ALL ON {TABLES_OF_SERVICE} TO {SERVICE}",
        )
    ),
    "the database's network swallows everything": _fault(through(Mode.BLACKHOLE)),
    "the database's network resets connections": _fault(through(Mode.RESET)),
    "the database's network is slow": _fault(through(Mode.LATENCY)),
}
