"""A user whom a deed is about, the ways to act for others, and what their calls say."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import update

from tests.conftest import API_KEY
from tests.support.factories import bearer_of, begin_log_in, make_user
from userservice.users import links
from userservice.users.links import Purpose
from userservice.users.queries import users

PASSWORD = "correct horse battery"
NEW_PASSWORD = "another sentence of length"
KEY = {"X-API-Key": API_KEY}

# Personal data in what callers send; a row that has a part of them has too much.
MARK = "Zorblax"
NAME = f"{MARK} Quux"
REASON = f"{MARK} was rude"
ROLE = f"{MARK.lower()}:read"
AGENT = f"Mozilla/5.0 (X11; Linux x86_64) {MARK}/1.0"
CLIENT = "203.0.113.77"


def address() -> str:
    """Return an address that nobody has."""
    return f"{MARK.lower()}.{uuid4().hex[:12]}@example.com"


@dataclass(frozen=True)
class Call:
    """A request."""

    method: str
    path: str
    headers: dict[str, str] = field(default_factory=dict)
    json: Any = None
    form: dict[str, str] | None = None


class World:
    """A user with a password, whom a deed is about, and the ways to act for others."""

    def __init__(self, services: Any, config: Any) -> None:
        self.services, self.config, self.database = services, config, services.database
        self.user = make_user(self.database, email=address(), name=NAME, password=PASSWORD)
        self.caller_id = self.user.id
        self.target = str(self.user.id)

    @property
    def path(self) -> str:
        """The path of the user."""
        return f"/users/{self.user.id}"

    @property
    def bearer(self) -> Any:
        """A log-in of the user."""
        return bearer_of(self.database, self.config, self.user)

    def log_in(self) -> Any:
        """Log the user in; return the tokens."""
        return begin_log_in(self.database, self.config, self.user)

    def write(self, **values: Any) -> None:
        """Change columns of the user, as an earlier deed did."""
        with self.database.connection() as connection:
            connection.execute(update(users).where(users.c.id == self.user.id).values(values))

    def link(self, purpose: Purpose) -> str:
        """Make a link for the user."""
        return links.make_link(self.services, purpose, self.user.id, datetime.now(UTC))[1]

    def act_as_superuser(self) -> Any:
        """Make a superuser, and log it in."""
        by = make_user(self.database, email=address(), password=PASSWORD, is_superuser=True)
        self.caller_id = by.id
        return bearer_of(self.database, self.config, by)
