"""Access tokens: signed, short-lived, and verified by a table of keys."""

from __future__ import annotations

import hmac
import warnings
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import jwt

from chassis.errors import InvalidToken
from chassis.settings.signing_keys import PublicTokens, SigningKey
from chassis.signatures import NO_CLAIMS, AccessClaims

# The configuration refuses short secrets in production; in development they are public anyway.
warnings.filterwarnings("ignore", category=jwt.InsecureKeyLengthWarning)

ALGORITHM = "HS256"
# How far the clocks of two replicas may be apart: a token may seem to be from the future.
LEEWAY = timedelta(seconds=30)
CLAIMS = ("iss", "aud", "sub", "exp", "iat", "jti")
# The type of tokens that others verify (RFC 9068, section 2.1), and its long form.
ACCESS_TOKEN_TYPE = "at+jwt"  # noqa: S105 - a media type
_TYPES = frozenset({ACCESS_TOKEN_TYPE, f"application/{ACCESS_TOKEN_TYPE}"})


class _Rules(NamedTuple):
    """All that holds of the tokens of one key; nothing of it comes from a token."""

    key_id: str
    signing: Any
    verifying: Any
    algorithm: str
    issuer: str
    audience: str | list[str]
    required: tuple[str, ...]
    is_public: bool


class AccessTokens:
    """Short-lived JWTs that name a user.

    Secrets that all replicas share sign tokens that only this service reads. The private keys of
    `public` sign tokens that others verify as well, under names of their own.

    Args:
        secrets: Those that hold; the first one signs, unless a private key does.
        issuer: The signing service; also the audience, since it reads its own tokens.
        lifetime: Time for which a token is valid.
        public: Tokens that others verify; none by default.
    """

    def __init__(
        self, *secrets: str, issuer: str, lifetime: timedelta, public: PublicTokens | None = None
    ) -> None:
        self._name = issuer
        self.lifetime = lifetime
        rules = [_of_secret(each, issuer) for each in secrets if each]
        if public is not None:
            rules += [_of_key(each, issuer, public) for each in public.keys]
        self._rules = {each.key_id: each for each in rules}
        signing = public.signing if public is not None else None
        self._signer = self._rules[signing.key_id] if signing is not None else rules[0]

    def issue(self, user_id: UUID, session_id: UUID, further: Mapping[str, Any] = NO_CLAIMS) -> str:
        """Make a token for a user, as a part of a log-in.

        Args:
            user_id: The subject.
            session_id: The log-in.
            further: Claims for others; a token that only this service reads has none of them.
        """
        now, signer = datetime.now(UTC), self._signer
        claims = {
            "iss": signer.issuer,
            "aud": signer.audience,
            "sub": str(user_id),
            "iat": now,
            "exp": now + self.lifetime,
            "jti": uuid4().hex,
            "sid": str(session_id),
        }
        headers = {"kid": signer.key_id}
        if signer.is_public:
            # No client has a name of its own: the service lets its own clients in alone.
            claims |= {"client_id": self._name, **further}
            headers["typ"] = ACCESS_TOKEN_TYPE
        return jwt.encode(claims, signer.signing, signer.algorithm, headers=headers)

    def read(self, token: str) -> AccessClaims:
        """Return the claims of a token; whether its log-in has ended is not looked at.

        Raises:
            InvalidToken: the token is not valid; the caller does not learn why.
        """
        try:
            header = jwt.get_unverified_header(token)
            rules = self._rules[header["kid"]]
            if rules.is_public and str(header.get("typ")).lower() not in _TYPES:
                raise jwt.InvalidTokenError
            claims = jwt.decode(
                token,
                rules.verifying,
                algorithms=[rules.algorithm],
                issuer=rules.issuer,
                audience=self._name,
                leeway=LEEWAY,
                options={"require": list(rules.required)},
            )
            if claims["exp"] <= datetime.now(UTC).timestamp():  # without the leeway
                raise jwt.ExpiredSignatureError
            return _read_claims(claims)
        except (jwt.PyJWTError, KeyError, TypeError, ValueError) as error:
            raise InvalidToken from error


def _of_secret(secret: str, name: str) -> _Rules:
    return _Rules(
        key_id=_key_id(secret),
        signing=secret,
        verifying=secret,
        algorithm=ALGORITHM,
        issuer=name,
        audience=name,
        required=CLAIMS,
        is_public=False,
    )


def _of_key(key: SigningKey, name: str, public: PublicTokens) -> _Rules:
    return _Rules(
        key_id=key.key_id,
        signing=key.private,
        verifying=key.public,
        algorithm=key.algorithm,
        issuer=public.issuer,
        audience=[each for each in dict.fromkeys((name, public.audience)) if each],
        required=(*CLAIMS, "client_id", "sid"),
        is_public=True,
    )


def _read_claims(claims: dict[str, Any]) -> AccessClaims:
    session_id = UUID(str(claims["sid"])) if "sid" in claims else None
    issued_at = datetime.fromtimestamp(int(claims["iat"]), UTC)
    return AccessClaims(UUID(claims["sub"]), session_id, issued_at, claims)


def _key_id(secret: str) -> str:
    """Return a name for a key that does not reveal it; names of different keys differ."""
    return hmac.digest(secret.encode(), b"kid", "sha256").hex()[:16]
