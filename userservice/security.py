"""Passwords, keys and signed tokens."""

from __future__ import annotations

import hmac
from threading import BoundedSemaphore
from uuid import UUID

import argon2
from itsdangerous import BadData, URLSafeSerializer

from userservice.errors import InvalidRequest, Unavailable


def same_secret(given: str, expected: str) -> bool:
    """Compare in constant time; an empty expectation matches nothing."""
    return bool(expected) and hmac.compare_digest(given.encode(), expected.encode())


class PasswordHasher:
    """argon2id, a bounded number at a time.

    Args:
        memory_kib: Memory for one hash, in KiB.
        time_cost: Passes over that memory.
        at_once: Hashes that may run side by side; the rest queue, so that memory is bounded.
        patience_seconds: How long one may queue.
    """

    def __init__(
        self,
        *,
        memory_kib: int = 19_456,
        time_cost: int = 2,
        at_once: int = 2,
        patience_seconds: float = 2.0,
    ) -> None:
        self._argon2 = argon2.PasswordHasher(
            time_cost=time_cost, memory_cost=memory_kib, parallelism=1
        )
        self._slots = BoundedSemaphore(at_once)
        self._patience_seconds = patience_seconds

    def hash(self, password: str) -> str:
        """Return the password's hash with its salt and parameters.

        Raises:
            Unavailable: too many passwords are being hashed.
        """
        if not self._slots.acquire(timeout=self._patience_seconds):
            raise Unavailable
        try:
            return self._argon2.hash(password)
        finally:
            self._slots.release()


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
