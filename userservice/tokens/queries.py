"""SQL about refresh tokens; the caller owns the connection."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Connection, Table, delete, func, insert, select, update

from userservice.tokens.models import RefreshToken

tokens: Table = RefreshToken.__table__  # type: ignore[assignment]  # a Table, declared wider


class TokenOwner(NamedTuple):
    """The user and the log-in of a token."""

    user_id: UUID
    family_id: UUID


def insert_token(
    connection: Connection, token_hash: str, owner: TokenOwner, *, expires_at: datetime
) -> None:
    """Store a token that is not spent."""
    values = owner._asdict() | {"token_hash": token_hash, "expires_at": expires_at}
    connection.execute(insert(tokens), values)


def spend_token(connection: Connection, token_hash: str, *, now: datetime) -> TokenOwner | None:
    """Mark a token as spent; return None when it is unknown, expired or spent already."""
    statement = (
        update(tokens)
        .where(tokens.c.token_hash == token_hash)
        .where(tokens.c.spent_at.is_(None), tokens.c.expires_at > now)
        .values(spent_at=now)
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


def count_expired(connection: Connection, *, before: datetime) -> int:
    """Count the tokens that expired before a point in time."""
    statement = select(func.count()).where(tokens.c.expires_at < before)
    return connection.execute(statement).scalar_one()


def purge_expired(connection: Connection, *, before: datetime, limit: int) -> int:
    """Remove at most `limit` expired tokens; return their number."""
    batch = select(tokens.c.token_hash).where(tokens.c.expires_at < before).limit(limit)
    return connection.execute(delete(tokens).where(tokens.c.token_hash.in_(batch))).rowcount
