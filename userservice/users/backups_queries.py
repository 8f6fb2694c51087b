"""SQL for full exports and restores of users; the caller owns the connection."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, Row, func, or_, select
from sqlalchemy.dialects.postgresql import insert as insert_or_skip

from userservice.users.queries import LIVE, users

_INSERT_MISSING = insert_or_skip(users).on_conflict_do_nothing().returning(users.c.id)


class Owner(NamedTuple):
    """A live user, and the keys of its address."""

    id: UUID
    email_key: str
    mailbox_key: str | None


def count_all(connection: Connection) -> int:
    """Count all users, deleted ones as well."""
    return connection.execute(select(func.count()).select_from(users)).scalar_one()


def stream_all(connection: Connection) -> Iterator[Sequence[Row[Any]]]:
    """Yield all columns of all users in id order, page by page."""
    yield from connection.execute(select(users).order_by(users.c.id)).partitions()


def insert_missing(connection: Connection, rows: Sequence[dict[str, Any]]) -> set[UUID]:
    """Insert users whose id and address are free; return their ids."""
    return set(connection.execute(_INSERT_MISSING, rows).scalars()) if rows else set()


def find_all(connection: Connection, ids: Collection[UUID]) -> Sequence[Row[Any]]:
    """Return all columns of some users, in no order."""
    return connection.execute(select(users).where(users.c.id.in_(ids))).all()


def find_owners(connection: Connection, keys: Collection[str]) -> Sequence[Owner]:
    """Return the live users to whom one of some keys belongs, in no order."""
    columns = (users.c[name] for name in Owner._fields)
    has_key = or_(users.c.email_key.in_(keys), users.c.mailbox_key.in_(keys))
    return [Owner(*row) for row in connection.execute(select(*columns).where(has_key, LIVE))]
