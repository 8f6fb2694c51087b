"""Signed tokens: access to the API, positions in a list, and secrets that follow from others."""

from __future__ import annotations

import hmac
import warnings
from base64 import urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import jwt
from itsdangerous import BadData, URLSafeSerializer

from chassis.errors import InvalidRequest, InvalidToken

# The configuration refuses short secrets in production; in development they are public anyway.
warnings.filterwarnings("ignore", category=jwt.InsecureKeyLengthWarning)

ALGORITHM = "HS256"
# How far the clocks of two replicas may be apart: a token may seem to be from the future.
LEEWAY = timedelta(seconds=30)
CLAIMS = ("iss", "aud", "sub", "exp", "iat", "jti")


class AccessClaims(NamedTuple):
    """The claims of an access token that holds."""

    subject: UUID
    session_id: UUID | None
    """The log-in that the token is a part of; None in tokens of the release before."""
    issued_at: datetime
    """The second in which the token was made, in UTC."""


class AccessTokens:
    """Short-lived JWTs that name a user, signed with a secret that all replicas share.

    Args:
        issuer: The signing service; also the audience, since it reads its own tokens.
        lifetime: Time for which a token is valid.
        secrets: The first one signs, all of them verify.
    """

    def __init__(self, *secrets: str, issuer: str, lifetime: timedelta) -> None:
        self._issuer = issuer
        self.lifetime = lifetime
        self._signing_id = _key_id(secrets[0])
        self._keys = {_key_id(secret): secret for secret in secrets if secret}

    def issue(self, user_id: UUID, session_id: UUID) -> str:
        """Make a token for a user, as a part of a log-in."""
        now = datetime.now(UTC)
        claims = {
            "iss": self._issuer,
            "aud": self._issuer,
            "sub": str(user_id),
            "iat": now,
            "exp": now + self.lifetime,
            "jti": uuid4().hex,
            "sid": str(session_id),
        }
        key = self._keys[self._signing_id]
        return jwt.encode(claims, key, ALGORITHM, headers={"kid": self._signing_id})

    def read(self, token: str) -> AccessClaims:
        """Return the claims of a token; whether its log-in has ended is not looked at.

        Raises:
            InvalidToken: the token is not valid; the caller does not learn why.
        """
        try:
            key = self._keys[jwt.get_unverified_header(token)["kid"]]
            claims = jwt.decode(
                token,
                key,
                algorithms=[ALGORITHM],
                issuer=self._issuer,
                audience=self._issuer,
                leeway=LEEWAY,
                options={"require": list(CLAIMS)},
            )
            if claims["exp"] <= datetime.now(UTC).timestamp():  # without the leeway
                raise jwt.ExpiredSignatureError
            return _read_claims(claims)
        except (jwt.PyJWTError, KeyError, TypeError, ValueError) as error:
            raise InvalidToken from error


def _read_claims(claims: dict[str, Any]) -> AccessClaims:
    session_id = UUID(str(claims["sid"])) if "sid" in claims else None
    issued_at = datetime.fromtimestamp(int(claims["iat"]), UTC)
    return AccessClaims(UUID(claims["sub"]), session_id, issued_at)


def _key_id(secret: str) -> str:
    """Return a name for a key that does not reveal it; names of different keys differ."""
    return hmac.digest(secret.encode(), b"kid", "sha256").hex()[:16]


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
