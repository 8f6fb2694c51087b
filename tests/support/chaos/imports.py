"""Imports that begin under the faults, and must be whole in the end."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

import httpx2
from sqlalchemy import text

from tests.support.deployment import API_KEY
from tests.support.operating import operating
from tests.support.waiting import DEADLINE_SECONDS, eventually

DOMAIN = "imported.example.com"
LINES = 40
# Five lines of such a length are a piece of an import.
PADDING = "x" * 52_000
HEADERS = {"X-API-Key": API_KEY, "Content-Type": "application/x-ndjson"}
STATES = text("SELECT state, count(*) FROM jobs GROUP BY state")
USERS = text("SELECT email, count(*) FROM users WHERE email LIKE :pattern GROUP BY email")


class Imports:
    """The imports that the service accepted."""

    def __init__(self) -> None:
        self.expected: set[str] = set()
        self._begun = 0

    def begin(self, url: str) -> None:
        """Have users with passwords imported; what is busy is asked again."""
        self._begun += 1
        emails = [f"{self._begun}-{number}@{DOMAIN}" for number in range(LINES)]
        upload = "".join(f"{json.dumps(_row(email))}\n" for email in emails)
        eventually(lambda: _upload(url, upload) == 202)
        self.expected |= set(emails)

    def problems(self, database_url: str) -> Iterator[str]:
        """Say which imports are not over, and which users are not there once."""
        with operating(database_url) as operator:
            states = _counts(operator.execute(STATES))
            users = _counts(operator.execute(USERS, {"pattern": f"%@{DOMAIN}"}))
        if set(states) - {"succeeded"}:
            yield f"imports end: {states}"
        if users != dict.fromkeys(self.expected, 1):
            yield f"imported users are there once: {len(users)} of {len(self.expected)}"


def _counts(rows: Iterable[Any]) -> dict[str, int]:
    return dict(tuple(row) for row in rows)


def _row(email: str) -> dict[str, str]:
    return {"email": email, "name": "Ada", "password": "a long sentence", "ignored": PADDING}


def _upload(url: str, upload: str) -> int:
    answer = httpx2.post(
        f"{url}/users/import", content=upload, headers=HEADERS, timeout=DEADLINE_SECONDS
    )
    return answer.status_code
