"""Statements that are compiled once, and run without SQLAlchemy's Connection.

For the few statements of every request: SQLAlchemy's work around a statement costs more than the
statement. Values, rows, errors and spans are the same as on SQLAlchemy's Connection.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, NoReturn, Self, TypeAlias

from sqlalchemy import Connection, Delete, Dialect, Engine, Insert, Select, Update, exc

from chassis.storage.failures import ends_session, is_read_only, outages

Parameters = Mapping[str, Any]


class Prepared:
    """A statement of SQLAlchemy Core, made when its module is imported.

    Its parameters have names and are no lists, and Python computes no defaults for it. Errors
    are raised as SQLAlchemy raises them.
    """

    def __init__(self, statement: Select[Any] | Insert | Update | Delete) -> None:
        self.statement = statement

    def run(self, connection: AnyConnection, parameters: Parameters) -> None:
        """Execute it; its rows, if there are any, are lost."""
        if isinstance(connection, PreparedConnection):
            connection.execute(self, parameters)
        else:
            connection.execute(self.statement, parameters)

    def first(self, connection: AnyConnection, parameters: Parameters) -> tuple[Any, ...] | None:
        """Execute it and return its first row."""
        if isinstance(connection, PreparedConnection):
            return connection.execute(self, parameters)
        row = connection.execute(self.statement, parameters).first()
        return tuple(row) if row is not None else None


class CompiledStatement:
    """The text of a statement for one dialect, and how its values go in and out."""

    def __init__(self, prepared: Prepared, dialect: Dialect) -> None:
        compiled = prepared.statement.compile(dialect=dialect)
        self.text = str(compiled)
        binds = [
            (name, bind, bind.type.dialect_impl(dialect).bind_processor(dialect))
            for name, bind in compiled.binds.items()
        ]
        self._given = [(name, process) for name, bind, process in binds if bind.required]
        self._fixed = {
            name: bind.value if process is None else process(bind.value)
            for name, bind, process in binds
            if not bind.required
        }
        kinds = [
            column.type.dialect_impl(dialect) for column in prepared.statement.exported_columns
        ]
        found = enumerate(kind.result_processor(dialect, None) for kind in kinds)
        self._results = [(at, process) for at, process in found if process is not None]

    def values(self, parameters: Parameters) -> dict[str, Any]:
        """Return what the driver is given."""
        values = self._fixed.copy()
        for name, process in self._given:
            value = parameters[name]
            values[name] = value if process is None else process(value)
        return values

    def row(self, values: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return a row of what the driver found."""
        row = list(values)
        for at, process in self._results:
            row[at] = process(row[at])
        return tuple(row)


class PreparedConnection:
    """A connection of an autocommit engine's pool; the block's end returns it to the pool.

    The block raises Unavailable when there is no connection in time, or the connection breaks.
    """

    def __init__(self, engine: Engine, compiled: dict[Prepared, CompiledStatement]) -> None:
        self._engine = engine
        self._dialect = engine.dialect
        self._compiled = compiled

    def __enter__(self) -> Self:
        with outages:
            try:
                self._pooled = self._engine.raw_connection()
            except self._dialect.loaded_dbapi.Error as error:
                self._fail(error, None, None)
        return self

    def __exit__(
        self, kind: object, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # An exit may have come in the middle of a statement.
        is_exit = error is not None and not isinstance(error, Exception)
        if is_exit and self._pooled.is_valid:
            self._pooled.invalidate(error)
        with outages:
            self._pooled.close()
        outages.__exit__(kind, error, traceback)

    def execute(self, prepared: Prepared, parameters: Parameters) -> tuple[Any, ...] | None:
        """Execute a statement, which stands, and commits, alone; return its first row."""
        compiled = self._compiled.get(prepared)
        if compiled is None:  # threads that come together compile one each, all alike
            compiled = CompiledStatement(prepared, self._dialect)
            self._compiled[prepared] = compiled
        values = compiled.values(parameters)
        try:
            cursor = self._pooled.cursor()
            self._send(cursor, compiled.text, values)
            row = cursor.fetchone() if cursor.description else None
            cursor.close()
        except self._dialect.loaded_dbapi.Error as error:
            self._fail(error, compiled.text, values)
        return compiled.row(row) if row is not None else None

    def _send(self, cursor: Any, statement: str, values: dict[str, Any]) -> None:
        """Execute as SQLAlchemy does: listeners, which trace, come first."""
        for execute in self._dialect.dispatch.do_execute:
            if execute(cursor, statement, values, None):
                return
        self._dialect.do_execute(cursor, statement, values, None)

    def _fail(self, error: Any, statement: str | None, values: Any) -> NoReturn:
        """Raise a driver's error as SQLAlchemy does."""
        pooled = None if statement is None else self._pooled
        driver = None if pooled is None else pooled.dbapi_connection
        is_cut = self._dialect.is_disconnect(error, driver, None)
        is_lost = is_cut or ends_session(error)
        if pooled is not None and (is_cut or is_read_only(error)):
            # All connections of that age: behind a frozen server each would cost a caller.
            self._engine.pool._invalidate(pooled, error)  # noqa: SLF001 - nothing public does
        elif pooled is not None and is_lost:
            pooled.invalidate(error)
        raise exc.DBAPIError.instance(
            statement,
            values,
            error,
            self._dialect.loaded_dbapi.Error,
            hide_parameters=self._engine.hide_parameters,
            connection_invalidated=is_lost,
            dialect=self._dialect,
        ) from error


AnyConnection: TypeAlias = Connection | PreparedConnection
