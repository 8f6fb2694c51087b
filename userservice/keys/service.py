"""Rules and transactions for API keys: made, listed, revoked."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Connection

from chassis.errors import FieldError, InsufficientScope, InvalidKey, InvalidRequest
from chassis.security import fingerprint, random_token
from chassis.storage import audit
from chassis.storage.clock import read_time
from chassis.storage.database import DatabaseManager
from chassis.storage.ids import uuid7
from userservice.actions import Action
from userservice.keys import queries
from userservice.keys.errors import KeyNotFound
from userservice.keys.queries import KeyRow
from userservice.keys.schemas import KeyCreate
from userservice.users import superusers
from userservice.users.credentials_queries import Checked

logger = logging.getLogger(__name__)

PREFIX = "cua"


class Maker(NamedTuple):
    """The one who makes a key, as its request was let in; nothing of it: an operator."""

    id: str | None = None
    """The id of the user, or of the API key."""
    checked: Checked | None = None
    """The user, as the check of the password found the row."""
    is_key: bool = False
    """Whether it is an API key that could have been revoked meanwhile."""


AN_OPERATOR = Maker()


class NewKey(NamedTuple):
    """A key that was made, and its text, which is stored nowhere."""

    row: KeyRow
    key: str


def create_key(database: DatabaseManager, new: KeyCreate, maker: Maker = AN_OPERATOR) -> NewKey:
    """Make a key.

    Raises:
        InvalidRequest: it would have expired already.
        Forbidden: the superuser is none any more, or has another password meanwhile.
        InvalidKey: the key that makes it has ended meanwhile.
    """
    key_id = uuid7()
    key = f"{PREFIX}_{key_id.hex}_{random_token()}"
    with database.transaction() as connection:
        _require_rights(connection, maker)
        row = _new_row(key_id, new, maker, now=read_time(connection))
        queries.insert_key(connection, row, fingerprint(key.encode()))
        changed = {"name", "scopes"} | ({"expires_at"} if new.expires_at else set())
        audit.record(connection, Action.KEY_CREATED, key_id.hex, changed=changed)
    logger.info("API key created", extra={"key_id": key_id.hex})
    return NewKey(row, key)


def list_keys(
    database: DatabaseManager, *, status: str | None, after: UUID | None, limit: int
) -> Sequence[KeyRow]:
    """Return one page of keys in the order in which they were made; see `queries.list_keys`."""
    with database.connection() as connection:
        return queries.list_keys(connection, status=status, after=after, limit=limit)


def revoke_key(
    database: DatabaseManager, key_id: UUID, *, may: Callable[[str], bool] | None = None
) -> None:
    """End a key; one that was revoked already stays as it is.

    Args:
        database: The database that stores the key.
        key_id: The key.
        may: Tells whether the caller has a scope; None: it has all.

    Raises:
        KeyNotFound: there is no such key.
        InsufficientScope: the key has a scope that the caller lacks.
    """
    with database.transaction() as connection:
        row = queries.lock_key(connection, key_id)
        if row is None:
            raise KeyNotFound
        if may is not None:
            require_scopes(row.scopes, may)
        if row.revoked_at is not None:
            return
        queries.end_key(connection, key_id)
        audit.record(connection, Action.KEY_REVOKED, key_id.hex, changed={"revoked_at"})
    logger.info("API key revoked", extra={"key_id": key_id.hex})


def require_scopes(scopes: Sequence[str], may: Callable[[str], bool]) -> None:
    """Require all scopes of a key.

    Raises:
        InsufficientScope: one of them is not the caller's.
    """
    for each in scopes:
        if not may(each):
            raise InsufficientScope(each)


def _require_rights(connection: Connection, maker: Maker) -> None:
    """Require that nobody took the maker's rights since the request was let in."""
    if maker.checked is not None:
        superusers.require_able(connection, maker.checked)
    # Another process may remember a revoked key for a moment: that must not outlast it.
    if maker.is_key and not queries.share_key(connection, maker.id or ""):
        raise InvalidKey


def _new_row(key_id: UUID, new: KeyCreate, maker: Maker, *, now: datetime) -> KeyRow:
    if new.expires_at is not None and new.expires_at <= now:
        sentence = "Expires at must lie in the future"
        raise InvalidRequest(sentence, errors=[FieldError("/expires_at", sentence)])
    return KeyRow(
        id=key_id,
        name=new.name,
        status="active",
        scopes=new.scopes,
        created_at=now,
        created_by=maker.id,
        expires_at=new.expires_at,
        revoked_at=None,
    )
