"""Hashes of passwords, and keys."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from threading import BoundedSemaphore
from typing import NamedTuple

import argon2

from chassis import hashes
from chassis.errors import Unavailable
from chassis.once import once_property

# In front of a hash: then no hasher, of any release, takes a password for the hashed one.
LOCK = "!"


def same_secret(given: str, expected: str) -> bool:
    """Compare two secrets in constant time; an empty `expected` matches nothing."""
    return bool(expected) and hmac.compare_digest(given.encode(), expected.encode())


def random_token() -> str:
    """Return a new secret that nobody can guess."""
    return secrets.token_urlsafe(32)


def fingerprint(value: bytes) -> str:
    """Return the SHA-256 digest under which a secret or an address is stored."""
    return hashlib.sha256(value).hexdigest()


def composed(password: str) -> str:
    """Return a password as it is hashed: keyboards differ in how they compose its letters."""
    return unicodedata.normalize("NFC", password)


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
                return self._argon2.hash(composed(password))
            except argon2.exceptions.HashingError as error:  # no memory
                raise Unavailable from error

    def verify(self, password_hash: str | None, password: str) -> bool:
        """Tell whether the password is the hashed one; `hashes` of other programs hold as well.

        Without a hash, or behind a LOCK, the answer is False after the same time, so that the time
        does not tell about either.

        Raises:
            Unavailable: too many passwords are being hashed, or there is no memory for one more.
        """
        # Older hashes are of the password as it was typed.
        forms = dict.fromkeys((composed(password), password))
        known = (password_hash or "").removeprefix(LOCK)
        with self._slot():
            is_right = any(self._is_hashed(known or self._nobodys_hash, each) for each in forms)
        return is_right and password_hash is not None and not password_hash.startswith(LOCK)

    def is_outdated(self, password_hash: str) -> bool:
        """Tell whether the hash was made with other parameters than the current ones."""
        return hashes.is_foreign(password_hash) or self._argon2.check_needs_rehash(password_hash)

    def _is_hashed(self, password_hash: str, password: str) -> bool:
        if hashes.is_foreign(password_hash):
            return hashes.verify(password_hash, password)
        try:
            return self._argon2.verify(password_hash, password)
        except (argon2.exceptions.VerifyMismatchError, argon2.exceptions.InvalidHashError):
            return False
        except (argon2.exceptions.VerificationError, argon2.exceptions.HashingError) as error:
            raise Unavailable from error  # that it could not be computed says nothing of it

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
