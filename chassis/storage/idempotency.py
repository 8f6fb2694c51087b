"""Idempotency-Key: the answer is stored in the transaction of the work, or not at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Connection,
    Insert,
    String,
    Table,
    Text,
    and_,
    bindparam,
    delete,
    func,
    or_,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Mapped, mapped_column

from chassis.errors import AppError, Conflict
from chassis.security import fingerprint
from chassis.storage.clock import database_time
from chassis.storage.columns import Base
from chassis.storage.database import DatabaseManager
from chassis.storage.prepared import AnyConnection, Prepared
from chassis.storage.tables import Tables, purge_expired

RETENTION = timedelta(hours=24)
LOCK_NOT_AVAILABLE = "55P03"


class KeyInFlight(Conflict):
    """The first request with this key is still being worked on."""

    code = "idempotency_key_in_flight"
    title = "A request with the same Idempotency-Key is in progress"
    remedy = "Send it again in a moment, with the same key: then the first answer comes."


class KeyReused(AppError):
    """The key belongs to another request."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    code = "idempotency_key_reused"
    title = "The Idempotency-Key was used for another request"
    remedy = "Send another request with a key of its own."


class IdempotencyKey(Base):
    """A key that was used, and the answer to its request."""

    __tablename__ = "idempotency_keys"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    request_hash: Mapped[str] = mapped_column(String(64))
    answer: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(index=True)
    # The row of which the answer tells; None where that is unknown.
    subject_id: Mapped[UUID | None]


@dataclass(frozen=True, slots=True)
class Request:
    """A request that carries a key.

    `scope` names the caller and the route: the same key of another caller is another key.
    """

    scope: str
    key: str
    body: bytes

    @property
    def id(self) -> str:
        """The digest under which the key is stored."""
        return fingerprint(f"{self.scope}\0{self.key}".encode())

    @property
    def hash(self) -> str:
        """The digest that tells this request from another one with the same key.

        A body may hold a password. The key itself is not stored, but it is part of the digest:
        a thief of the table cannot try passwords without guessing a random key as well.
        """
        return fingerprint(self.key.encode() + b"\0" + self.body)


class AlreadyAnswered(AppError):
    """The request was answered before; `answer` is sent again. Not a failure."""

    status = HTTPStatus.OK
    code = "already_answered"
    title = "Already answered"

    def __init__(self, answer: str) -> None:
        super().__init__()
        self.answer = answer


keys: Table = IdempotencyKey.__table__  # type: ignore[assignment]  # a Table, declared wider
_GET = Prepared(
    select(keys.c.request_hash, keys.c.answer).where(
        keys.c.id == bindparam("key_id"), keys.c.created_at >= database_time(-RETENTION)
    )
)


def recall(database: DatabaseManager, request: Request) -> None:
    """Look for an answer before any work is done.

    Raises:
        AlreadyAnswered: there is an answer.
        KeyReused: the key belongs to another request.
    """
    with database.prepared() as connection:
        _recall(connection, request)


def reserve(
    connection: Connection, request: Request, answer: str, *, subject_id: UUID | None = None
) -> None:
    """Store the answer in the transaction of the work; `subject_id` is the row that it tells of.

    A second request with the key waits here for the first one. If the first commits, both get
    the same answer; if it fails, the second does the work.

    Raises:
        AlreadyAnswered: another request with the key was first.
        KeyReused: that request asked for something else.
        KeyInFlight: that request is still being worked on.
    """
    row: dict[str, Any] = {
        "request_hash": request.hash,
        "answer": answer,
        "created_at": database_time(),
        "subject_id": subject_id,
    }
    # A row that outlived its retention counts as absent, even before it is purged.
    statement = insert(keys).values(id=request.id, **row)
    statement = statement.on_conflict_do_update(index_elements=["id"], set_=row, where=_expired())
    if not _claim(connection, statement):
        _recall(connection, request)
        raise KeyInFlight(retry_after=timedelta(seconds=1))


def _claim(connection: Connection, statement: Insert) -> bool:
    """Insert a key; return False when it was used."""
    try:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SET LOCAL lock_timeout = '2s'"))
        return bool(connection.execute(statement).rowcount)
    except OperationalError as error:
        if getattr(error.orig, "pgcode", None) != LOCK_NOT_AVAILABLE:
            raise
        raise KeyInFlight(retry_after=timedelta(seconds=1)) from error


class StoredAnswer(NamedTuple):
    """An answer that is kept to be sent again."""

    answer: str
    created_at: datetime


def list_answers(connection: Connection, subject_id: UUID) -> Sequence[StoredAnswer]:
    """Return the answers that tell of a row, in no order; this reads the whole table."""
    columns = (keys.c[name] for name in StoredAnswer._fields)
    rows = connection.execute(select(*columns).where(_tells_of(subject_id)))
    return [StoredAnswer(*row) for row in rows]


def forget(connection: Connection, subject_id: UUID) -> None:
    """Remove the answers that tell of a row; this reads the whole table, which keeps a day."""
    connection.execute(delete(keys).where(_tells_of(subject_id)))


def _tells_of(subject_id: UUID) -> ColumnElement[bool]:
    # The release before stores no subject; its answers name the row.
    is_named = and_(keys.c.subject_id.is_(None), keys.c.answer.contains(str(subject_id)))
    return or_(keys.c.subject_id == subject_id, is_named)


def count_expired_keys(database: DatabaseManager) -> int:
    """Count the keys whose retention has ended."""
    statement = select(func.count()).where(_expired())
    with database.connection() as connection:
        return connection.execute(statement).scalar_one()


def purge_expired_keys(database: DatabaseManager) -> Iterator[int]:
    """Remove the keys whose retention has ended; yield the size of each batch."""
    expired = _expired()

    def purge_batch(connection: Connection, limit: int) -> int:
        batch = select(keys.c.id).where(expired).limit(limit)
        return connection.execute(delete(keys).where(keys.c.id.in_(batch))).rowcount

    return database.purge(purge_batch)


TABLES: Tables = {"idempotency_keys": purge_expired(count_expired_keys, purge_expired_keys)}


def _expired() -> ColumnElement[bool]:
    return keys.c.created_at < database_time(-RETENTION)


def _recall(connection: AnyConnection, request: Request) -> None:
    row = _GET.first(connection, {"key_id": request.id})
    if row is None:
        return
    request_hash, answer = row
    if request_hash != request.hash:
        raise KeyReused
    raise AlreadyAnswered(answer)
