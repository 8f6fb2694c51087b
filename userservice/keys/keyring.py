"""The keyring: the API keys that this process has seen lately, so that few requests look one up.

A key that holds is remembered under its fingerprint, and so by its whole text; nothing is
remembered of any other text. How long is measured by this process's clock, which nobody sets; the
remaining life of a key by that of the database, which all processes have in common.
"""

from __future__ import annotations

import re
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import timedelta
from threading import Lock
from typing import NamedTuple

from prometheus_client import Counter

from chassis.security import fingerprint
from chassis.storage.database import DatabaseManager
from userservice.keys import queries
from userservice.keys.metrics import requests_of
from userservice.keys.queries import FoundKey

MOST_KNOWN = 1024
# Base64 without padding: 43 characters are 32 bytes.
_KEY = re.compile(r"cua_(?P<id>[0-9a-f]{32})_[A-Za-z0-9_-]{43}", re.ASCII)


class KnownKey(NamedTuple):
    """A key that holds until `until`, as `time.monotonic` counts."""

    id: str
    scopes: frozenset[str]
    until: float
    requests: Counter


class Keyring:
    """Looks API keys up, and remembers those that hold.

    Args:
        database: Stores the keys.
        lifetime: How long a key is remembered; a key that another process revokes holds here for
            as long.
        clock: Seconds that never go back; tests own the time with it.
    """

    def __init__(
        self,
        database: DatabaseManager,
        lifetime: timedelta,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._lifetime = lifetime
        self._clock = clock
        self._lock = Lock()
        self._known: OrderedDict[str, KnownKey] = OrderedDict()
        self._forgotten = 0

    def __len__(self) -> int:
        """Return how many keys are remembered."""
        return len(self._known)

    def find(self, key: str) -> KnownKey | None:
        """Return a key that holds; None when it is unknown, revoked, or has expired.

        A text that is no key costs no statement, a key that is remembered none either, and each
        other one the same.
        """
        parsed = _KEY.fullmatch(key)
        if parsed is None:
            return None
        digest = fingerprint(key.encode())
        known = self._recall(digest) or self._look_up(parsed["id"], digest)
        if known is not None:
            known.requests.inc()
        return known

    def forget(self, key_id: str) -> None:
        """Look a key up again from now on: it was revoked."""
        with self._lock:
            self._forgotten += 1
            for digest in [name for name, each in self._known.items() if each.id == key_id]:
                del self._known[digest]

    def _recall(self, digest: str) -> KnownKey | None:
        with self._lock:
            known = self._known.get(digest)
            if known is None:
                return None
            if self._clock() >= known.until:
                del self._known[digest]
                return None
            self._known.move_to_end(digest)
            return known

    def _look_up(self, key_id: str, digest: str) -> KnownKey | None:
        with self._lock:
            forgotten, asked_at = self._forgotten, self._clock()
        with self._database.prepared() as connection:
            found = queries.find_key(connection, key_id, digest)
        if found is None:
            return None
        until = asked_at + self._remembered(found).total_seconds()
        known = KnownKey(found.id, frozenset(found.scopes), until, requests_of(found.id))
        self._remember(digest, known, forgotten)
        return known

    def _remembered(self, found: FoundKey) -> timedelta:
        if found.expires_at is None:
            return self._lifetime
        return min(self._lifetime, found.expires_at - found.now)

    def _remember(self, digest: str, known: KnownKey, forgotten: int) -> None:
        with self._lock:
            # A key may have been revoked since it was looked up: then the next request asks again.
            if not self._lifetime or self._forgotten != forgotten:
                return
            self._known[digest] = known
            self._known.move_to_end(digest)
            if len(self._known) > MOST_KNOWN:
                self._known.popitem(last=False)
