"""The promises that all peers keep: the ids, the folded address, the lengths, the API key.

The table is the service's own; its migrations make it.
"""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from hmac import compare_digest
from secrets import randbits
from typing import Any
from uuid import UUID

EMAIL_LENGTH = 254
NAME_LENGTH = 200
POOL_SIZE = 10
POOL_OVERFLOW = 20

DATABASE_URL = os.environ.get("DATABASE_URL", "")
API_KEY = os.environ.get("API_KEY", "")
PORT = int(os.environ.get("PORT", "8080"))
# Whether a registration also stores the message that a worker would deliver.
EQUAL_WORK = "EQUAL_WORK" in os.environ
PATIENCE = timedelta(days=1)


def uuid7() -> UUID:
    """Make a time-ordered UUID; the API promises version 7."""
    milliseconds = time.time_ns() // 1_000_000
    return UUID(int=milliseconds << 80 | 0x7 << 76 | randbits(12) << 64 | 0b10 << 62 | randbits(62))


def email_key(email: str) -> str:
    """Fold an address: it is unique whatever its case."""
    return email.casefold()


def is_allowed(given: str | None) -> bool:
    """Tell whether a caller has the API key."""
    return given is not None and compare_digest(given.encode(), API_KEY.encode())


def message_about(user_id: UUID) -> dict[str, Any]:
    """Return the columns of the message that a registration leaves in the outbox."""
    now = datetime.now(UTC)
    return {
        "id": uuid7(),
        "topic": "user.registered",
        "payload": {"user_id": str(user_id)},
        "trace": {},
        "status": "queued",
        "attempts": 0,
        "due_at": now,
        "expires_at": now + PATIENCE,
    }
