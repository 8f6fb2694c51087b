"""The ledger of erasures: ids that log lines keep, when the database no longer does."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any
from uuid import UUID

from chassis.errors import InvalidRequest

ERASED = "User erased"


def read_ids(lines: Iterable[bytes]) -> Iterator[UUID]:
    """Yield the ids of a ledger: ids, one a line, or log lines, of which others are left out.

    Raises:
        InvalidRequest: a line is neither.
    """
    for number, line in enumerate(lines, start=1):
        if text := line.decode(errors="replace").strip():
            try:
                yield from _ids(text)
            except (ValueError, KeyError, AttributeError):
                raise InvalidRequest(f"Line {number} is neither an id nor a log line") from None


def _ids(text: str) -> Iterator[UUID]:
    if not text.startswith("{"):
        yield UUID(text)
        return
    line: dict[str, Any] = json.loads(text)
    if line.get("message") == ERASED:
        yield UUID(line["user_id"])
