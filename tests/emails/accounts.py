"""A user's own calls about an account, and the e-mails that follow from them."""

from __future__ import annotations

from typing import Any

from flask.testing import FlaskClient
from sqlalchemy import delete, select

from chassis.background.outbox import messages
from chassis.backing_services import BackingServices
from tests.background.test_delivery import delivering, stored
from tests.support.provider import Mail, MailProvider
from tests.support.waiting import eventually
from userservice.resources import EVENT_HANDLERS
from userservice.users.queries import UserRow, users


class Account:
    """A user who logs in with the password, and calls with the token of that log-in."""

    def __init__(self, client: FlaskClient, user: UserRow, password: str) -> None:
        self.client = client
        self.id = user.id
        self.email = user.email
        self.password = password
        self.tokens = self.log_in(user.email).json

    @property
    def bearer(self) -> dict[str, str]:
        """The header that names the first log-in."""
        return {"Authorization": f"Bearer {self.tokens['access_token']}"}

    def log_in(self, email: str) -> Any:
        """Log in once more."""
        form = {"grant_type": "password", "username": email, "password": self.password}
        return self.client.post("/auth/token", data=form)

    def change(self, email: str, password: str | None = None, client: Any = None) -> Any:
        """Ask for another address."""
        document = {"email": email, "current_password": password or self.password}
        path = f"/users/{self.id}/email"
        return (client or self.client).post(path, json=document, headers=self.bearer)

    def ask_to_verify(self) -> Any:
        """Ask for a link that verifies the address in force."""
        return self.client.post(f"/users/{self.id}/email/verification", headers=self.bearer)

    def confirm(self, token: str) -> Any:
        """Follow a link."""
        return self.client.post("/auth/email/confirm", json={"token": token}, headers=self.bearer)

    def read(self) -> Any:
        """Read the own document."""
        return self.client.get(f"/users/{self.id}", headers=self.bearer)


class Mails:
    """The e-mails of a service: delivered when asked for."""

    def __init__(self, services: BackingServices, provider: MailProvider) -> None:
        self.services = services
        self._provider = provider

    def drop(self) -> None:
        """Forget the messages that wait."""
        with self.services.database.connection() as connection:
            connection.execute(delete(messages))

    def deliver(self) -> list[Mail]:
        """Deliver what waits; return the e-mails that were sent."""
        before = len(self._provider.taken)
        with delivering(self.services, EVENT_HANDLERS):
            eventually(lambda: not stored(self.services.database, status="queued"))
        return self._provider.taken[before:]

    def link(self) -> str:
        """Deliver what waits; return the token of the one link."""
        (variables,) = (each.document["variables"] for each in self.deliver())
        return str(variables["link"]).partition("#")[2]

    def sent(self) -> list[tuple[str, str]]:
        """Deliver what waits; return template and recipient of each e-mail, in their order."""
        return sorted((each.document["template"], each.to) for each in self.deliver())


def columns_of(database: Any, user_id: Any, *names: str) -> tuple[Any, ...]:
    """Return columns of a user's row."""
    statement = select(*(users.c[name] for name in names)).where(users.c.id == user_id)
    with database.connection() as connection:
        return tuple(connection.execute(statement).one())
