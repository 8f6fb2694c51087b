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

# Configuration refuses short secrets where it matters; elsewhere they are known anyway.
warnings.filterwarnings("ignore", category=jwt.InsecureKeyLengthWarning)

ALGORITHM = "HS256"
# How far the clocks of two replicas may be apart: a token may seem to be from the future.
LEEWAY = timedelta(seconds=30)
CLAIMS = ("iss", "aud", "sub", "exp", "iat", "jti")


def same_secret(given: str, expected: str) -> bool:
    """Compare in constant time; an empty expectation matches nothing."""
    return bool(expected) and hmac.compare_digest(given.encode(), expected.encode())


def random_token() -> str:
    """Make a secret that nobody guesses."""
    return secrets.token_urlsafe(32)


def fingerprint(value: bytes) -> str:
    """Return what is stored instead of a value that is random, or none of the store's business."""
    return hashlib.sha256(value).hexdigest()


class Hashing(NamedTuple):
    """How passwords are hashed; see PasswordHasher."""

    memory_kib: int
    time_cost: int
    parallel: int


class PasswordHasher:
    """argon2id, a bounded number at a time.

    Args:
        memory_kib: Memory for one hash, in KiB.
        time_cost: Passes over that memory.
        parallel: Hashes that may run side by side; the rest queue, so that memory is bounded.
        patience: How long one may queue.
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
        """What a hasher in another process is made with."""
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

        Without a hash the answer is no, and takes as long: time must not tell who has one.

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
        """Tell whether the hash was made with other parameters than are used now."""
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
    """Short-lived JWTs that name a user, signed with a secret all replicas share.

    Args:
        issuer: Who signs; also the audience, since this service reads its own tokens.
        lifetime: How long a token holds.
        secrets: The first signs, all of them verify.
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
            Unauthenticated: whatever is wrong with the token; which, is not for the caller.
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
    """Name a key without telling it; the name only has to differ between keys."""
    return hmac.digest(secret.encode(), b"kid", "sha256").hex()[:16]


class PageTokens:
    """Positions in a list, signed so that only positions we gave out come back.

    A token is bound to the list it was made for: its filters are part of the signature.

    Args:
        secrets: The first signs, all of them verify.
    """

    def __init__(self, *secrets: str) -> None:
        keys = [secret for secret in secrets if secret]
        self._serializer = URLSafeSerializer(keys[::-1], salt="page-token")

    def sign(self, after: UUID, *filters: str | None) -> str:
        """Make the token for the page that begins behind `after`."""
        return str(self._serializer.dumps([after.hex, *filters]))

    def read(self, token: str, *filters: str | None) -> UUID:
        """Return what `sign` was given.

        Raises:
            InvalidRequest: the token is not ours, or is for another list.
        """
        try:
            after, *signed = self._serializer.loads(token)
        except BadData as error:
            raise InvalidRequest("Page token is not valid") from error
        if signed != list(filters):
            raise InvalidRequest("Page token belongs to another list")
        return UUID(after)
