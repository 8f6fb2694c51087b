"""Tells services whether an access token holds (RFC 7662)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chassis.errors import InvalidToken
from chassis.storage.database import DatabaseManager
from userservice.tokens.schemas import Introspection
from userservice.users import credentials

if TYPE_CHECKING:
    from chassis.access_tokens import AccessTokens  # loads cryptography: for web alone

# One answer for every reason: garbage, another issuer, an expiry, a log-in that has ended, a user
# who is gone. Refresh tokens are for this service alone, and for no service that asks.
INACTIVE = Introspection(active=False)
_ACTIVE = {"active": True, "token_type": "Bearer"}


def introspect(database: DatabaseManager, access_tokens: AccessTokens, token: str) -> Introspection:
    """Return the claims of an access token that holds at this moment, in one statement.

    Roles and the standing of the address are those of now, and not of when the token was made.
    """
    try:
        claims = access_tokens.read(token)
    except InvalidToken:
        return INACTIVE
    of_user = credentials.find_claims(database, claims)
    if of_user is None:
        return INACTIVE
    return Introspection.model_validate({**claims.members, **of_user, **_ACTIVE})
