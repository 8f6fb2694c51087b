"""PostgreSQL: arguments of new connections, and checks when one leaves or enters the pool."""

from __future__ import annotations

import os
import select
from datetime import timedelta
from math import ceil
from typing import Any

from sqlalchemy import URL, Connection, Engine, event, exc

READ_ONLY_PARAMETERS = ("in_hot_standby", "default_transaction_read_only")


def connect_arguments(
    url: URL, *, connect_timeout: timedelta, statement_timeout: timedelta, application_name: str
) -> dict[str, Any]:
    """Return the arguments for the driver beside those of the URL, which win.

    The operator's `options`, of the URL or else of PGOPTIONS, come after ours: of two values for
    one setting the last one holds.
    """
    settings = {
        "timezone": "UTC",
        "statement_timeout": ceil(statement_timeout.total_seconds() * 1000),
        # A client that stalls inside a transaction must not hold the locks for ever.
        "idle_in_transaction_session_timeout": 60_000,
    }
    own_options = [f"-c {name}={value}" for name, value in settings.items()]
    arguments = {
        "connect_timeout": max(1, ceil(connect_timeout.total_seconds())),  # 0 is without end
        "application_name": application_name,
        "client_encoding": "UTF8",  # PGCLIENTENCODING would leave names that cannot be written
        # Notice within seconds, not hours, that the server has vanished.
        "keepalives_idle": 30,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 10_000,
    }
    # An argument hides the variable that libpq would read by itself.
    given = url.normalized_query.get("options") or (os.environ.get("PGOPTIONS", ""),)
    options = " ".join([*own_options, *given]).strip()
    return {**{k: v for k, v in arguments.items() if k not in url.query}, "options": options}


def listen(engine: Engine, transactional: Engine) -> None:
    """Refuse dead connections, and begin and end the transactions of the second engine."""

    @event.listens_for(engine, "checkout")
    def _refuse_dead(connection: Any, _record: Any, _proxy: Any) -> None:
        # A server that exits closes its end, which makes an idle socket readable. Checking
        # this costs a system call; a ping would cost a round trip.
        poll = select.poll()
        poll.register(connection.fileno(), select.POLLIN)
        if poll.poll(0):
            raise exc.DisconnectionError

    @event.listens_for(transactional, "begin")
    def _begin(connection: Connection) -> None:
        # The driver sends BEGIN together with the next statement. SQLAlchemy's isolation
        # level option would send a statement of its own.
        driver: Any = connection.connection.dbapi_connection
        driver.autocommit = False

    @event.listens_for(engine, "checkin")
    def _rest(connection: Any, _record: Any) -> None:
        if connection is not None and not connection.autocommit:
            connection.autocommit = True

    _close_read_only(engine)


def _close_read_only(engine: Engine) -> None:
    """Let a session that began read-only serve once: the next may be at a server that writes."""

    @event.listens_for(engine, "connect")
    def _note(connection: Any, record: Any) -> None:
        # The server says so by itself (from version 14 on), so asking costs nothing.
        said = (connection.info.parameter_status(name) for name in READ_ONLY_PARAMETERS)
        record.info["is_read_only"] = "on" in said

    @event.listens_for(engine, "checkin")
    def _close(connection: Any, record: Any) -> None:
        if connection is not None and record.info.get("is_read_only"):
            record.invalidate()
