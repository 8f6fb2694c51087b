"""SQL about refresh tokens; the caller owns the connection."""

from __future__ import annotations

from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Connection, Table, delete, func, insert, select, update

from chassis.storage.clock import database_time
from userservice.tokens.models import RefreshToken

tokens: Table = RefreshToken.__table__  # type: ignore[assignment]  # a Table, declared wider


class TokenOwner(NamedTuple):
    """The user and the log-in of a token."""

    user_id: UUID
    family_id: UUID


def insert_token(
    connection: Connection, token_hash: str, owner: TokenOwner, *, lifetime: timedelta
) -> None:
    """Store a token that is not spent."""
    values = owner._asdict() | {"token_hash": token_hash, "expires_at": database_time(lifetime)}
    connection.execute(insert(tokens).values(values))


def spend_token(connection: Connection, token_hash: str) -> TokenOwner | None:
    """Mark a token as spent; return None when it is unknown, expired or spent already."""
    statement = (
        update(tokens)
        .where(tokens.c.token_hash == token_hash)
        .where(tokens.c.spent_at.is_(None), tokens.c.expires_at > database_time())
        .values(spent_at=database_time())
        .returning(tokens.c.user_id, tokens.c.family_id)
    )
    row = connection.execute(statement).first()
    return TokenOwner(*row) if row is not None else None


def delete_family(connection: Connection, token_hash: str) -> int:
    """Remove a token, spent or not, and all others of its log-in; return their number."""
    statement = select(tokens.c.family_id).where(tokens.c.token_hash == token_hash)
    family_id = connection.scalar(statement)
    total = 0
    # A DELETE that waited for a refresh has not seen the new token which the refresh added.
    while deleted := _delete_known(connection, family_id):
        total += deleted
    return total


def _delete_known(connection: Connection, family_id: UUID | None) -> int:
    return connection.execute(delete(tokens).where(tokens.c.family_id == family_id)).rowcount


def count_expired(connection: Connection) -> int:
    """Count the tokens that have expired."""
    statement = select(func.count()).where(tokens.c.expires_at <= database_time())
    return connection.execute(statement).scalar_one()


def purge_expired(connection: Connection, limit: int) -> int:
    """Remove at most `limit` expired tokens; return their number."""
    expired = tokens.c.expires_at <= database_time()
    batch = select(tokens.c.token_hash).where(expired).limit(limit)
    return connection.execute(delete(tokens).where(tokens.c.token_hash.in_(batch))).rowcount
