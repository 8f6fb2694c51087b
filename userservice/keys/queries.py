"""SQL about API keys; the caller owns the connection."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Table, bindparam, select

from chassis.storage.prepared import AnyConnection, Prepared
from userservice.keys.models import ApiKey


class KeyRow(NamedTuple):
    """The columns that a request with a key is checked against."""

    id: str
    key_hash: str
    scopes: list[str]
    expires_at: datetime | None


keys: Table = ApiKey.__table__  # type: ignore[assignment]  # a Table, declared wider
_FIND = Prepared(
    select(*(keys.c[name] for name in KeyRow._fields)).where(
        keys.c.id == bindparam("key_id"), keys.c.revoked_at.is_(None)
    )
)


def find_key(connection: AnyConnection, key_id: str) -> KeyRow | None:
    """Return a key that was not revoked."""
    row = _FIND.first(connection, {"key_id": key_id})
    return KeyRow(*row) if row is not None else None
