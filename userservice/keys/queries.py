"""SQL about API keys; the caller owns the connection."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import (
    Connection,
    String,
    Table,
    and_,
    bindparam,
    case,
    insert,
    literal_column,
    or_,
    select,
    update,
)

from chassis.storage.clock import database_time
from chassis.storage.prepared import AnyConnection, Prepared
from userservice.keys.models import ApiKey
from userservice.users.queries import IN_GOOD_STANDING, users


class FoundKey(NamedTuple):
    """The columns that a request with a key is checked against."""

    id: str
    scopes: list[str]
    expires_at: datetime | None
    now: datetime
    """The database's time."""


class KeyRow(NamedTuple):
    """An API key, without its fingerprint."""

    id: UUID
    name: str
    status: str
    scopes: list[str]
    created_at: datetime
    created_by: str | None
    expires_at: datetime | None
    revoked_at: datetime | None


keys: Table = ApiKey.__table__  # type: ignore[assignment]  # a Table, declared wider
_IS_REVOKED = keys.c.revoked_at.is_not(None)
_IS_EXPIRED = and_(keys.c.expires_at.is_not(None), keys.c.expires_at <= database_time())
LIVING = and_(
    keys.c.revoked_at.is_(None),
    or_(keys.c.expires_at.is_(None), keys.c.expires_at > database_time()),
)
_status = case(
    (_IS_REVOKED, literal_column("'revoked'", String())),
    (_IS_EXPIRED, literal_column("'expired'", String())),
    else_=literal_column("'active'", String()),
)
_COLUMNS = tuple(
    _status.label(name) if name == "status" else keys.c[name] for name in KeyRow._fields
)
# Whether it is unknown, revoked, expired or another secret with a known id: no row, by one look at
# the primary key. Fingerprints may be compared in a time that tells of them: nobody can choose one.
_FIND = Prepared(
    select(keys.c.id, keys.c.scopes, keys.c.expires_at, database_time().label("now")).where(
        keys.c.id == bindparam("key_id"), keys.c.key_hash == bindparam("key_hash"), LIVING
    )
)


def find_key(connection: AnyConnection, key_id: str, key_hash: str) -> FoundKey | None:
    """Return a key that holds: it has this id and this fingerprint, and has not ended."""
    row = _FIND.first(connection, {"key_id": key_id, "key_hash": key_hash})
    return FoundKey(*row) if row is not None else None


def share_key(connection: Connection, key_id: str) -> bool:
    """Keep a key from being revoked before the transaction's end; return False if it has ended."""
    statement = select(keys.c.id).where(keys.c.id == key_id, LIVING)
    return connection.execute(statement.with_for_update(read=True)).first() is not None


def lock_key(connection: Connection, key_id: UUID) -> KeyRow | None:
    """Lock the row of a key, whether or not it has ended, and return it."""
    statement = select(*_COLUMNS).where(keys.c.id == key_id.hex)
    row = connection.execute(statement.with_for_update()).first()
    return _row(row) if row is not None else None


def list_keys(
    connection: Connection, *, status: str | None, after: UUID | None, limit: int | None
) -> Sequence[KeyRow]:
    """Return keys in id order, which is that of their creation.

    Args:
        connection: The caller's.
        status: Only keys that are active, expired or revoked; None: all.
        after: Only keys behind this id.
        limit: Largest number of keys to return; None: all.
    """
    statement = select(*_COLUMNS)
    if status is not None:
        statement = statement.where(_status == status)
    if after is not None:
        statement = statement.where(keys.c.id > after.hex)
    return [*map(_row, connection.execute(statement.order_by(keys.c.id).limit(limit)))]


def list_superusers(connection: Connection) -> Sequence[UUID]:
    """Return the ids of all superusers who are live and not suspended."""
    statement = select(users.c.id).where(users.c.is_superuser, IN_GOOD_STANDING)
    return connection.scalars(statement).all()


def insert_key(connection: Connection, row: KeyRow, key_hash: str) -> None:
    """Store a new key under its fingerprint."""
    values = row._asdict() | {"id": row.id.hex, "key_hash": key_hash}
    del values["status"]
    connection.execute(insert(keys).values(values))


def end_key(connection: Connection, key_id: UUID) -> None:
    """Note that a key is revoked now."""
    connection.execute(
        update(keys).where(keys.c.id == key_id.hex).values(revoked_at=database_time())
    )


def _row(row: Any) -> KeyRow:
    return KeyRow(*row)._replace(id=UUID(row.id))
