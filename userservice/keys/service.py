"""Rules and transactions for API keys."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from chassis.security import fingerprint, same_secret
from chassis.storage.database import DatabaseManager
from userservice.keys import queries
from userservice.keys.queries import KeyRow

# Base64 without padding: 43 characters are 32 bytes.
_KEY = re.compile(r"cua_(?P<id>[0-9a-f]{32})_(?P<secret>[A-Za-z0-9_-]{43})", re.ASCII)


def find_key(database: DatabaseManager, key: str) -> KeyRow | None:
    """Return the row of a key; None when it is unknown, revoked or has expired.

    A text that is no key costs no statement, and any other one.
    """
    parsed = _KEY.fullmatch(key)
    if parsed is None:
        return None
    with database.prepared() as connection:
        row = queries.find_key(connection, parsed["id"])
    if row is None or not same_secret(fingerprint(key.encode()), row.key_hash):
        return None
    if row.expires_at is not None and row.expires_at <= datetime.now(UTC):
        return None
    return row
