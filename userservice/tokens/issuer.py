"""Makes the tokens of a log-in, and stores those that renew it."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection

from chassis.security import fingerprint, random_token
from chassis.signatures import NO_CLAIMS, SuccessorTokens
from userservice.logins import queries
from userservice.logins.metrics import count_repeated
from userservice.logins.queries import LogIn
from userservice.tokens.errors import InvalidGrant

if TYPE_CHECKING:
    from chassis.access_tokens import AccessTokens  # loads cryptography: for web alone

SALT_BYTES = 16


@dataclass(frozen=True, slots=True)
class TokenPair:
    """The tokens that a client gets with a grant."""

    access_token: str
    refresh_token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenIssuer:
    """Makes tokens with their lifetimes.

    Attributes:
        access_tokens: Signs access tokens.
        successors: Derives a refresh token from the one before.
        refresh_lifetime: Time for which a refresh token can be used.
        reuse: Time for which a spent token brings its successor again; zero: not at all.
    """

    access_tokens: AccessTokens
    successors: SuccessorTokens
    refresh_lifetime: timedelta
    reuse: timedelta

    def begin(
        self, connection: Connection, log_in: LogIn, claims: Mapping[str, Any] = NO_CLAIMS
    ) -> TokenPair:
        """Make the first tokens of a log-in; `claims` are for other services."""
        refresh_token = random_token()
        self._store(connection, log_in, refresh_token, is_successor=False)
        return self._pair(log_in, refresh_token, claims)

    def renew(
        self,
        connection: Connection,
        log_in: LogIn,
        token: str,
        claims: Mapping[str, Any] = NO_CLAIMS,
    ) -> TokenPair | None:
        """Spend a refresh token for new tokens; return None if it was spent, and not just now.

        The access token has `claims` for other services, as they are now.

        Raises:
            InvalidGrant: the token is gone, or has expired; or it was spent just now, and its
                successor was derived from another secret.
        """
        token_hash = fingerprint(token.encode())
        salt = secrets.token_hex(SALT_BYTES)
        if queries.spend_token(connection, token_hash, salt):
            successor = self.successors.after(token, salt)
            self._store(connection, log_in, successor, is_successor=True)
            return self._pair(log_in, successor, claims)
        spending = queries.find_spending(connection, token_hash, within=self.reuse)
        if spending is None:
            raise InvalidGrant
        if spending.salt is None:
            return None
        repeated = self._repeat(connection, token, spending.salt)
        return self._pair(log_in, repeated, claims) if repeated is not None else None

    def _repeat(self, connection: Connection, token: str, salt: str) -> str | None:
        """Return the successor of a spent token again; None once that was spent, too."""
        successor = self.successors.after(token, salt)
        is_living = queries.find_is_living(connection, fingerprint(successor.encode()))
        if is_living is None:
            raise InvalidGrant
        if not is_living:
            return None
        count_repeated()
        return successor

    def _store(
        self, connection: Connection, log_in: LogIn, token: str, *, is_successor: bool
    ) -> None:
        token_hash, lifetime = fingerprint(token.encode()), self.refresh_lifetime
        queries.insert_token(
            connection, token_hash, log_in, lifetime=lifetime, is_successor=is_successor
        )

    def _pair(self, log_in: LogIn, refresh_token: str, claims: Mapping[str, Any]) -> TokenPair:
        access_token = self.access_tokens.issue(log_in.user_id, log_in.family_id, claims)
        return TokenPair(access_token, refresh_token)
