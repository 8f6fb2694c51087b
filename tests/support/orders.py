"""Two pieces of work in two threads, of which the first is held before each of its statements."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

from sqlalchemy import event, text

from chassis.storage.database import DatabaseManager
from tests.support.waiting import DEADLINE_SECONDS, eventually

WAITING = text(
    "SELECT count(*) FROM pg_stat_activity"
    " WHERE wait_event_type = 'Lock' AND datname = current_database()"
)
CHANGES = ("BEGIN IMMEDIATE", "INSERT", "UPDATE", "DELETE")


class _Work(threading.Thread):
    """A piece of work that can be held; keeps what it raises."""

    def __init__(self, work: Callable[[], object], hold_at: int | None = None) -> None:
        super().__init__(daemon=True)
        self._work = work
        self._hold_at = hold_at
        self.statements: list[str] = []
        self.is_held = threading.Event()
        self.go_on = threading.Event()
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001 - told by the test
            self.error = error

    def note(self, statement: str) -> None:
        """Take part of the work as begun; wait there if that is the point."""
        self.statements.append(statement)
        if len(self.statements) - 1 == self._hold_at:
            self.is_held.set()
            assert self.go_on.wait(DEADLINE_SECONDS)

    @property
    def changes(self) -> bool:
        """Whether the last statement is one for which SQLite waits."""
        return bool(self.statements) and self.statements[-1].startswith(CHANGES)

    def finish(self, *expected: type[Exception]) -> None:
        """Wait for the end; raise what it raised, unless that is expected."""
        self.join(DEADLINE_SECONDS)
        assert not self.is_alive(), f"a deadlock at {self.statements[-1:]}"
        if self.error is not None and not isinstance(self.error, expected):
            raise self.error


def hold_everywhere(
    database: DatabaseManager,
    prepare: Callable[[], tuple[Callable[[], object], Callable[[], object]]],
    check: Callable[[], None],
    *expected: type[Exception],
) -> int:
    """Hold one piece of work before each of its statements, while the other one runs.

    Args:
        database: The database of both.
        prepare: Makes a new state, and returns both pieces of work.
        check: Asserts what holds after both.
        expected: Failures that either may have.

    Returns:
        The number of orders that were tried: points of the first piece, the commit included.
    """
    for point in count():
        first, second = prepare()
        if not _run(database, first, second, point, expected):
            return point
        check()
    raise AssertionError


def _run(
    database: DatabaseManager,
    first: Callable[[], object],
    second: Callable[[], object],
    point: int,
    expected: tuple[type[Exception], ...],
) -> bool:
    """Run both, the first one held at a point; return False when it has no such point."""
    held, other = _Work(first, point), _Work(second)
    with _noting(database, held, other):
        held.start()
        eventually(lambda: held.is_held.is_set() or not held.is_alive())
        other.start()
        if was_held := held.is_held.is_set():
            eventually(lambda: not other.is_alive() or _waits(database, other))
        held.go_on.set()
        held.finish(*expected)
        other.finish(*expected)
    return was_held


def _waits(database: DatabaseManager, other: _Work) -> bool:
    if database.is_sqlite:
        return other.changes
    with database.connection() as connection:
        return bool(connection.scalar(WAITING))


@contextmanager
def _noting(database: DatabaseManager, *works: _Work) -> Iterator[None]:
    def note(statement: str) -> None:
        for each in works:
            if each is threading.current_thread():
                each.note(statement)

    def execute(_cursor: Any, statement: str, _values: Any, _context: Any) -> None:
        note(statement)

    def commit(_connection: Any) -> None:
        note("COMMIT")

    engine = database.engine
    transactional = database._transactions  # noqa: SLF001 - nobody else needs its commits
    event.listen(engine, "do_execute", execute)
    event.listen(transactional, "commit", commit)
    try:
        yield
    finally:
        event.remove(engine, "do_execute", execute)
        event.remove(transactional, "commit", commit)
