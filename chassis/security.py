"""Passwords, keys and signed tokens."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from threading import BoundedSemaphore
from typing import NamedTuple
from uuid import UUID, uuid4

import argon2
import jwt
from itsdangerous import BadData, URLSafeSerializer

from chassis.errors import InvalidRequest, Unauthenticated, Unavailable
from chassis.once import once_property

# The configuration refuses short secrets in production; in development they are public anyway.
warnings.filterwarnings("ignore", category=jwt.InsecureKeyLengthWarning)

ALGORITHM = "HS256"
# How far the clocks of two replicas may be apart: a token may seem to be from the future.
LEEWAY = timedelta(seconds=30)
CLAIMS = ("iss", "aud", "sub", "exp", "iat", "jti")


def same_secret(given: str, expected: str) -> bool:
    """Compare two secrets in constant time; an empty `expected` matches nothing."""
    return bool(expected) and hmac.compare_digest(given.encode(), expected.encode())


def random_token() -> str:
    """Return a new secret that nobody can guess."""
    return secrets.token_urlsafe(32)


def fingerprint(value: bytes) -> str:
    """Return the SHA-256 digest under which a secret or an address is stored."""
    return hashlib.sha256(value).hexdigest()


class Hashing(NamedTuple):
    """The parameters of PasswordHasher."""

    memory_kib: int
    time_cost: int
    parallel: int


class PasswordHasher:
    """Hashes passwords with argon2id, a bounded number at a time.

    Args:
        memory_kib: Memory for one hash, in KiB.
        time_cost: Passes over that memory.
        parallel: Hashes that may run side by side; the rest queue, so that memory is bounded.
        patience: Longest time that a hash may queue.
    """

    def __init__(
        self,
        *,
        memory_kib: int = 19_456,
        time_cost: int = 2,
        parallel: int = 2,
        patience: timedelta = timedelta(seconds=2),
    ) -> None:
        self._argon2 = argon2.PasswordHasher(
            time_cost=time_cost, memory_cost=memory_kib, parallelism=1
        )
        self._parallel = parallel
        self._slots = BoundedSemaphore(parallel)
        self._patience_seconds = patience.total_seconds()

    @property
    def parameters(self) -> Hashing:
        """The parameters with which another process makes the same hasher."""
        return Hashing(self._argon2.memory_cost, self._argon2.time_cost, self._parallel)

    def hash(self, password: str) -> str:
        """Return the password's hash with its salt and parameters.

        Raises:
            Unavailable: too many passwords are being hashed, or there is no memory for one more.
        """
        with self._slot():
            try:
                return self._argon2.hash(password)
            except argon2.exceptions.HashingError as error:  # no memory
                raise Unavailable from error

    def verify(self, password_hash: str | None, password: str) -> bool:
        """Tell whether the password is the hashed one.

        Without a hash the answer is False after the same time, so that the time does not tell
        whether a user exists.

        Raises:
            Unavailable: too many passwords are being hashed, or there is no memory for one more.
        """
        with self._slot():
            try:
                self._argon2.verify(password_hash or self._nobodys_hash, password)
            except (argon2.exceptions.VerifyMismatchError, argon2.exceptions.InvalidHashError):
                return False
            except (argon2.exceptions.VerificationError, argon2.exceptions.HashingError) as error:
                raise Unavailable from error  # that it could not be computed says nothing of it
        return password_hash is not None

    def is_outdated(self, password_hash: str) -> bool:
        """Tell whether the hash was made with other parameters than the current ones."""
        return self._argon2.check_needs_rehash(password_hash)

    @once_property
    def _nobodys_hash(self) -> str:
        return self._argon2.hash(random_token())

    @contextmanager
    def _slot(self) -> Iterator[None]:
        if not self._slots.acquire(timeout=self._patience_seconds):
            raise Unavailable
        try:
            yield
        finally:
            self._slots.release()


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

    def issue(self, user_id: UUID) -> str:
        """Make a token for a user."""
        now = datetime.now(UTC)
        claims = {
            "iss": self._issuer,
            "aud": self._issuer,
            "sub": str(user_id),
            "iat": now,
            "exp": now + self.lifetime,
            "jti": uuid4().hex,
        }
        key = self._keys[self._signing_id]
        return jwt.encode(claims, key, ALGORITHM, headers={"kid": self._signing_id})

    def read(self, token: str) -> UUID:
        """Return the user that a token names.

        Raises:
            Unauthenticated: the token is not valid; the caller does not learn why.
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
            return UUID(claims["sub"])
        except (jwt.PyJWTError, KeyError, TypeError, ValueError) as error:
            raise Unauthenticated from error


def _key_id(secret: str) -> str:
    """Return a name for a key that does not reveal it; names of different keys differ."""
    return hmac.digest(secret.encode(), b"kid", "sha256").hex()[:16]


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
