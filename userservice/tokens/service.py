"""Logging in, staying logged in, logging out."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from uuid import UUID

from chassis.actor import ActorKind, known_as
from chassis.errors import Unavailable
from chassis.security import PasswordHasher, fingerprint, same_secret
from chassis.storage import audit
from chassis.storage.database import DatabaseManager
from chassis.storage.ids import uuid7
from userservice.actions import Action, and_sessions
from userservice.logins import queries
from userservice.logins.endings import Reason, report_ended
from userservice.logins.metrics import count_ended
from userservice.logins.queries import LogIn
from userservice.tokens.errors import InvalidGrant
from userservice.tokens.issuer import TokenIssuer, TokenPair
from userservice.users import credentials

logger = logging.getLogger(__name__)

# How often a log-in looks again, because the stored hash changed while it was being verified.
ATTEMPTS = 3


class PasswordGrant(NamedTuple):
    """The words of a log-in, and the label of the device that it comes from."""

    email: str
    password: str
    label: str | None = None


class _Verified(NamedTuple):
    """A user, with the very hash against which the password was verified."""

    user_id: UUID
    password_hash: str


def log_in(
    database: DatabaseManager, hasher: PasswordHasher, issuer: TokenIssuer, grant: PasswordGrant
) -> TokenPair:
    """Exchange an address and a password for tokens.

    Raises:
        InvalidGrant: the address is unknown, or its user has no password or another one, or is
            suspended.
        Unavailable: there are too many log-ins at once, or the password changes all the time.
    """
    for _ in range(ATTEMPTS):
        verified = _verify(database, hasher, grant)
        pair = _begin(database, issuer, verified, grant.label) if verified is not None else None
        if pair is not None:
            return pair
    raise Unavailable


def _verify(
    database: DatabaseManager, hasher: PasswordHasher, grant: PasswordGrant
) -> _Verified | None:
    """Verify a password, and renew its hash; return None if the hash changed meanwhile."""
    known = credentials.find_credentials(database, grant.email)
    known_hash = known.password_hash if known else None
    is_right = hasher.verify(known_hash, grant.password)  # whoever it is: it takes the same time
    if not is_right or known is None or known_hash is None or known.is_suspended:
        raise InvalidGrant
    if not hasher.is_outdated(known_hash):
        return _Verified(known.id, known_hash)
    new_hash = hasher.hash(grant.password)
    is_stored = credentials.store_password_hash(database, known.id, known_hash, new_hash)
    return _Verified(known.id, new_hash) if is_stored else None


def _begin(
    database: DatabaseManager, issuer: TokenIssuer, verified: _Verified, label: str | None
) -> TokenPair | None:
    """Begin a log-in; return None unless the stored hash is still the one that was verified."""
    log_in = LogIn(verified.user_id, uuid7(), label)
    with database.transaction() as connection:
        # Not only shared, as for a refresh: the oldest log-in may have to end.
        known = credentials.lock_user(connection, verified.user_id)
        if known is None or known.is_suspended or known.password_hash is None:
            return None
        if not same_secret(verified.password_hash, known.password_hash):
            return None
        pair = issuer.begin(connection, log_in, known.claims)
        ended = queries.delete_oldest(connection, log_in, beside=queries.MAX_LOG_INS - 1)
        by = known_as(ActorKind.USER, log_in.user_id)
        changed = and_sessions(ended)
        audit.record(connection, Action.SESSION_BEGUN, log_in.user_id, changed=changed, by=by)
    report_ended(verified.user_id, ended, Reason.LIMIT)
    return pair


def refresh(database: DatabaseManager, issuer: TokenIssuer, refresh_token: str) -> TokenPair:
    """Exchange a refresh token for new tokens, which spends it.

    A client whose answer was lost may ask again for a moment, and gets the same refresh token. If
    a spent token comes back later, two parties have it, and one is a thief. So its family ends.

    Raises:
        InvalidGrant: the token is unknown, expired or spent, or its user is gone or suspended.
    """
    token_hash = fingerprint(refresh_token.encode())
    with database.transaction() as connection:
        log_in = queries.find_log_in(connection, token_hash)
        if log_in is None:
            raise InvalidGrant
        claims = credentials.share_user(connection, log_in.user_id)
        if claims is not None:
            pair = issuer.renew(connection, log_in, refresh_token, claims)
            if pair is not None:
                return pair
    # In a transaction of its own, which locks the row that the one before shared.
    _end_reused(database, log_in)
    raise InvalidGrant


def _end_reused(database: DatabaseManager, log_in: LogIn) -> None:
    # By nobody who is known: the user and the thief both have the token.
    event = audit.new_event(Action.SESSION_REUSED, log_in.user_id)
    if revoked := _end(database, log_in, event):
        count_ended(Reason.REUSE)
        logger.warning("Refresh token family revoked", extra={"tokens": revoked})


def _end(database: DatabaseManager, log_in: LogIn, event: Mapping[str, Any]) -> int:
    """End a log-in, which is a deed if it lives; return how many tokens it had."""
    with database.transaction() as connection:
        credentials.lock_user(connection, log_in.user_id)
        ended = queries.delete_family(connection, log_in.user_id, log_in.family_id)
        if ended:
            connection.execute(audit.INSERT, event)
        return ended


def revoke(database: DatabaseManager, refresh_token: str) -> None:
    """End the log-in of a refresh token; that of an unknown token has ended already."""
    log_in = _find_log_in(database, refresh_token)
    if log_in is None:
        return
    by = known_as(ActorKind.USER, log_in.user_id)
    if _end(database, log_in, audit.new_event(Action.SESSION_LOGGED_OUT, log_in.user_id, by=by)):
        report_ended(log_in.user_id, 1, Reason.LOG_OUT)


def _find_log_in(database: DatabaseManager, refresh_token: str) -> LogIn | None:
    with database.connection() as connection:
        return queries.find_log_in(connection, fingerprint(refresh_token.encode()))


def count_expired_tokens(database: DatabaseManager) -> int:
    """Count the refresh tokens that have expired."""
    with database.connection() as connection:
        return queries.count_expired(connection)


def purge_expired_tokens(database: DatabaseManager) -> Iterator[int]:
    """Remove the refresh tokens that have expired; yield the size of each batch."""
    return database.purge(queries.purge_expired)
