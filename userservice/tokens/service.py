"""Logging in, staying logged in, logging out."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Connection

from chassis.security import PasswordHasher, fingerprint, random_token
from chassis.signatures import AccessTokens
from chassis.storage.database import DatabaseManager
from chassis.storage.ids import uuid7
from userservice.tokens import queries
from userservice.tokens.errors import InvalidGrant
from userservice.tokens.queries import TokenOwner
from userservice.users import credentials

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TokenPair:
    """The tokens that a client gets with a grant."""

    access_token: str
    refresh_token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenIssuer:
    """Makes tokens with their lifetimes."""

    access_tokens: AccessTokens
    refresh_lifetime: timedelta

    def pair(self, connection: Connection, owner: TokenOwner) -> TokenPair:
        """Make an access token and a refresh token; store the refresh token."""
        refresh_token = random_token()
        token_hash = fingerprint(refresh_token.encode())
        queries.insert_token(connection, token_hash, owner, lifetime=self.refresh_lifetime)
        return TokenPair(self.access_tokens.issue(owner.user_id), refresh_token)


def log_in(
    database: DatabaseManager,
    hasher: PasswordHasher,
    issuer: TokenIssuer,
    *,
    email: str,
    password: str,
) -> TokenPair:
    """Exchange an address and a password for tokens.

    Raises:
        InvalidGrant: the address is unknown, or its user has no password or another one.
        Unavailable: there are too many log-ins at once.
    """
    known = credentials.find_credentials(database, email)
    known_hash = known.password_hash if known else None
    if not hasher.verify(known_hash, password) or known is None or known_hash is None:
        raise InvalidGrant
    if hasher.is_outdated(known_hash):
        credentials.store_password_hash(database, known.id, known_hash, hasher.hash(password))
    with database.connection() as connection:
        return issuer.pair(connection, TokenOwner(known.id, uuid7()))


def refresh(database: DatabaseManager, issuer: TokenIssuer, refresh_token: str) -> TokenPair:
    """Exchange a refresh token for new tokens, which spends it.

    If a spent token comes back, two parties have it, and one is a thief. So its family ends.

    Raises:
        InvalidGrant: the token is unknown, expired or spent, or its user is gone.
    """
    token_hash = fingerprint(refresh_token.encode())
    with database.transaction() as connection:
        owner = queries.spend_token(connection, token_hash)
        if owner is not None and credentials.is_live(connection, owner.user_id):
            return issuer.pair(connection, owner)
        revoked = queries.delete_family(connection, token_hash)
    if revoked:
        logger.warning("Refresh token family revoked", extra={"tokens": revoked})
    raise InvalidGrant


def count_expired_tokens(database: DatabaseManager) -> int:
    """Count the refresh tokens that have expired."""
    with database.connection() as connection:
        return queries.count_expired(connection)


def purge_expired_tokens(database: DatabaseManager) -> Iterator[int]:
    """Remove the refresh tokens that have expired; yield the size of each batch."""
    return database.purge(queries.purge_expired)


def revoke(database: DatabaseManager, refresh_token: str) -> None:
    """End the log-in of a refresh token; that of an unknown token has ended already."""
    with database.connection() as connection:
        queries.delete_family(connection, fingerprint(refresh_token.encode()))
