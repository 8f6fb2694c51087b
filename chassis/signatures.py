"""Signed positions in a list, secrets that follow from others, and the claims of access tokens."""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, NamedTuple
from uuid import UUID

from itsdangerous import BadData, URLSafeSerializer

from chassis.errors import InvalidRequest

NO_CLAIMS: Mapping[str, Any] = MappingProxyType({})


class AccessClaims(NamedTuple):
    """The claims of an access token that holds."""

    subject: UUID
    session_id: UUID | None
    """The log-in that the token is a part of; None in tokens of the release before."""
    issued_at: datetime
    """The second in which the token was made, in UTC."""
    members: Mapping[str, Any] = NO_CLAIMS
    """All claims, as the token holds them."""


class SuccessorTokens:
    """Secrets that follow from others: the same one again for whoever has the one before.

    Nobody computes them without the secret, the token before and the salt stored with it.

    Args:
        secret: The secret that all replicas share.
    """

    def __init__(self, secret: str) -> None:
        self._key = hmac.digest(secret.encode(), b"successor", "sha256")

    def after(self, token: str, salt: str) -> str:
        """Return the token that follows a spent one; `salt` is of a fixed length."""
        code = hmac.digest(self._key, f"{token}{salt}".encode(), "sha256")
        return urlsafe_b64encode(code).rstrip(b"=").decode()


class PageTokens:
    """Signed positions in a list, so that callers cannot make up positions of their own.

    A token is bound to its list: the list's filters are part of the signature.

    Args:
        secrets: The first one signs, all of them verify.
    """

    def __init__(self, *secrets: str) -> None:
        keys = [secret for secret in secrets if secret]
        self._serializer = URLSafeSerializer(keys[::-1], salt="page-token")

    def sign(self, after: UUID, *filters: str | None) -> str:
        """Return the token for the page that begins behind `after`."""
        return str(self._serializer.dumps([after.hex, *filters]))

    def read(self, token: str, *filters: str | None) -> UUID:
        """Return the position that `sign` put into the token.

        Raises:
            InvalidRequest: this service did not make the token, or made it for another list.
        """
        try:
            after, *signed = self._serializer.loads(token)
        except BadData as error:
            raise InvalidRequest("Page token is not valid") from error
        if signed != list(filters):
            raise InvalidRequest("Page token belongs to another list")
        return UUID(after)
