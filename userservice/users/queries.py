"""SQL about users, and nothing else. Rows are immutable; the caller owns the connection."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from pydantic_core import to_json
from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Table,
    bindparam,
    column,
    delete,
    func,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import insert as insert_or_skip
from sqlalchemy.exc import IntegrityError

from chassis.background import outbox
from chassis.storage.copying import copy_rows
from userservice.users.models import Status, User


class UserRow(NamedTuple):
    """What the service knows of a user, credentials excepted."""

    id: UUID
    email: str
    name: str
    status: str
    version: int
    created_at: datetime
    updated_at: datetime


class NewUsers(NamedTuple):
    """Users who come in numbers, column by column; ids are hexadecimal digits.

    Plain lists of text are cheap to hand from process to process.
    """

    id: Sequence[str]
    email: Sequence[str]
    email_key: Sequence[str]
    name: Sequence[str]
    signup_source: Sequence[str]
    tier: Sequence[str]
    password_hash: Sequence[str | None]

    def rows(self) -> list[tuple[str | None, ...]]:
        """Return them user by user."""
        return list(zip(*self, strict=True))


class CredentialsRow(NamedTuple):
    """What a user logs in with."""

    id: UUID
    password_hash: str | None


users: Table = User.__table__  # type: ignore[assignment]  # declared as FromClause, is a Table
_COLUMNS = tuple(users.c[name] for name in UserRow._fields)
_LIVE = users.c.status != Status.DELETED
_LIVE_SQL = text("status <> 'deleted'")
_EXPORTED = ("id", "email", "name", "signup_source", "tier", "created_at")

_INSERT = insert(users).values({column.name: bindparam(column.name) for column in users.c})
# PostgreSQL takes both rows in one statement; other databases need two.
_INSERT_BOTH = outbox.INSERT.add_cte(_INSERT.cte("new_user"))

_INSERT_NEW = (
    insert_or_skip(users)
    .on_conflict_do_nothing(index_elements=["email_key"], index_where=_LIVE_SQL)
    .returning(users.c.email_key, users.c.tier)
)
_DIFFERING = NewUsers._fields
_SHARED = tuple(column.name for column in users.c if column.name not in _DIFFERING)
_ROWS = (
    func.json_to_recordset(bindparam("rows"))
    .table_valued(*(column(name, users.c[name].type) for name in _DIFFERING))
    .render_derived(with_types=True)
)
_INSERT_JSON = _INSERT_NEW.from_select(
    [*_DIFFERING, *_SHARED],
    select(*_ROWS.c, *(bindparam(name, type_=users.c[name].type) for name in _SHARED)),
)
_GET = select(*_COLUMNS).where(users.c.id == bindparam("user_id"), _LIVE)

_GET_IS_SUPERUSER = select(users.c.is_superuser).where(users.c.id == bindparam("user_id"), _LIVE)
_GET_CREDENTIALS = select(users.c.id, users.c.password_hash).where(
    users.c.email_key == bindparam("email_key"), _LIVE
)


def insert_user(
    connection: Connection, values: Mapping[str, Any], message: Mapping[str, Any]
) -> None:
    """Insert a user and the message that speaks of it, all columns given.

    On PostgreSQL this is one statement; elsewhere it belongs into a transaction.

    Raises:
        IntegrityError: the address belongs to a live user.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(_INSERT_BOTH, {**values, **message})
    else:
        connection.execute(_INSERT, values)
        connection.execute(outbox.INSERT, message)


def copy_users(connection: Connection, new: NewUsers, shared: Mapping[str, Any]) -> bool:
    """Insert users on PostgreSQL at half of the cost of `insert_users`.

    Args:
        connection: Where.
        new: Who.
        shared: The columns in which they do not differ.

    Returns:
        False when an address is taken or comes twice, or the database is another; then none was
        inserted.
    """
    if connection.dialect.name != "postgresql":
        return False
    try:
        with connection.begin_nested():
            copy_rows(connection, users.name, _DIFFERING, new.rows(), shared)
    except IntegrityError:
        return False
    return True


def insert_users(
    connection: Connection, new: NewUsers, shared: Mapping[str, Any]
) -> dict[str, str]:
    """Insert users, but not those whose address is taken; return email_key -> tier of who is new.

    Args:
        connection: Where.
        new: Who.
        shared: The columns in which they do not differ.
    """
    rows = [dict(zip(_DIFFERING, row, strict=True)) for row in new.rows()]
    if connection.dialect.name == "postgresql":
        # One parameter instead of one for each value: a third of the CPU, here and there.
        created = connection.execute(_INSERT_JSON, {"rows": to_json(rows).decode(), **shared})
    else:
        values = [{**row, **shared, "id": UUID(row["id"])} for row in rows]
        created = connection.execute(_INSERT_NEW, values)
    return dict(created.all())


def stream_users(connection: Connection) -> Iterator[Sequence[Row[Any]]]:
    """Yield the live users in id order, in pages: id, email, name, source, tier, created_at."""
    columns = (users.c[name] for name in _EXPORTED)
    result = connection.execute(select(*columns).where(_LIVE).order_by(users.c.id))
    yield from result.partitions()


def find_user(connection: Connection, user_id: UUID) -> UserRow | None:
    """Return a live user."""
    row = connection.execute(_GET, {"user_id": user_id}).first()
    return UserRow(*row) if row is not None else None


def find_credentials(connection: Connection, email_key: str) -> CredentialsRow | None:
    """Return what a live user logs in with."""
    row = connection.execute(_GET_CREDENTIALS, {"email_key": email_key}).first()
    return CredentialsRow(*row) if row is not None else None


def find_is_superuser(connection: Connection, user_id: UUID) -> bool | None:
    """Tell whether a live user is a superuser; None when there is no such user."""
    is_superuser: bool | None = connection.scalar(_GET_IS_SUPERUSER, {"user_id": user_id})
    return is_superuser


def replace_password_hash(
    connection: Connection, user_id: UUID, *, old_hash: str, new_hash: str
) -> None:
    """Store a new hash of the same password, unless the password has changed meanwhile."""
    statement = update(users).where(users.c.id == user_id, users.c.password_hash == old_hash)
    connection.execute(statement.values(password_hash=new_hash))


def list_users(
    connection: Connection,
    *,
    status: Status,
    email_key: str | None,
    after: UUID | None,
    limit: int,
) -> Sequence[UserRow]:
    """Return at most `limit` users of one status in id order, beginning behind `after`."""
    # The status is part of the statement, not a parameter: it selects a partial index.
    statement = select(*_COLUMNS).where(_LIVE if status is Status.ACTIVE else _deleted())
    if email_key is not None:
        statement = statement.where(users.c.email_key == email_key)
    if after is not None:
        statement = statement.where(users.c.id > after)
    rows = connection.execute(statement.order_by(users.c.id).limit(limit))
    return [UserRow(*row) for row in rows]


def update_user(
    connection: Connection,
    user_id: UUID,
    values: Mapping[str, Any],
    *,
    versions: Collection[int] | None,
) -> UserRow | None:
    """Change a live user that is at one of `versions` (None: any); None if there was none.

    Raises:
        IntegrityError: the new address belongs to another live user.
    """
    statement = update(users).where(users.c.id == user_id, _LIVE)
    if versions is not None:
        statement = statement.where(users.c.version.in_(versions))
    statement = statement.values(**values, version=users.c.version + 1)
    row = connection.execute(statement.returning(*_COLUMNS)).first()
    return UserRow(*row) if row is not None else None


def count_users(connection: Connection) -> dict[str, int]:
    """Return status -> number of users; reads the whole table."""
    counts = connection.execute(select(users.c.status, func.count()).group_by(users.c.status))
    return dict.fromkeys(map(str, Status), 0) | dict(counts.all())


def count_purgeable(connection: Connection, *, before: datetime) -> int:
    """Count the users that were deleted before a point in time."""
    statement = select(func.count()).where(_deleted(), users.c.updated_at < before)
    return connection.execute(statement).scalar_one()


def purge_users(connection: Connection, *, before: datetime, limit: int) -> int:
    """Remove at most `limit` users that were deleted before a point in time; say how many."""
    batch = select(users.c.id).where(_deleted(), users.c.updated_at < before).limit(limit)
    return connection.execute(delete(users).where(users.c.id.in_(batch))).rowcount


def _deleted() -> ColumnElement[bool]:
    return users.c.status == Status.DELETED
