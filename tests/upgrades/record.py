"""Writes down what this release asks of PostgreSQL.

Run it with python -m tests.upgrades.record, in the folder of the release; `make migration` does
so for the last commit. The file is named after the newest migration. The next release proves
with it that its schema still serves this one; see docs/upgrades.md.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from admin import AdminCommands
from app import create_app
from bootstrap import open_backing_services
from chassis.background import outbox
from chassis.backing_services import BackingServices
from chassis.errors import Undeliverable
from chassis.storage import migrations
from config import AppConfig
from tests.support import servers
from tests.upgrades.statements import recording
from userservice.resources import EVENT_HANDLERS

FOLDER = Path(__file__).resolve().parent
PASSWORD = "a long enough sentence"
KEY = {"X-API-Key": "recording"}
LINES = b'{"email": "c@example.com", "name": "Ada"}\nno user\n'


class Outgoing:
    """Takes e-mails, and keeps the tokens of their links, with which a client can go on."""

    def __init__(self) -> None:
        self.tokens: list[str] = []

    def send(self, template: str, *, to: str, variables: dict[str, str], key: str) -> bool:  # noqa: ARG002
        """Take an e-mail."""
        if "link" in variables:
            self.tokens.append(variables["link"].partition("#")[2])
        return True

    def close(self) -> None:
        """Nothing was opened."""


def record(url: str, folder: Path) -> Path:
    """Write the statements of all that a client can do, in their order; return the file.

    Args:
        url: A database without tables.
        folder: Where the file goes.
    """
    config = AppConfig(
        database_url=url,
        redis_url="",
        api_key=KEY["X-API-Key"],
        rate_limit_enabled=False,
        web_concurrency=1,
    )
    outgoing = Outgoing()
    services = replace(open_backing_services(config), mailer=outgoing)
    migrations.upgrade(services.database)
    with recording(services.database.engine) as statements:
        client = create_app(config, services).test_client()
        act(client)
        deliver(services)
        reset(client, outgoing.tokens[-1])
        deliver(services)
        AdminCommands(config, services).cleanup_old_data(days=0)
    services.close()
    file = folder / f"{migrations.head()}.sql"
    # SET speaks of a connection. A replay sends all in one transaction of its own.
    kept = [each for each in statements if not each.startswith("SET ")]
    file.write_bytes("".join(kept).encode())
    return file


def act(client: Any) -> None:
    """Do all that a client can do and that changes something."""
    ask = partial(_ask, client)
    ada = {"email": "ada@example.com", "name": "Ada", "password": PASSWORD, "source": "web"}
    user = ask("POST", "/users", json=ada).json
    keyed = {"Idempotency-Key": "b"}
    other = ask("POST", "/users", json=ada | {"email": "b@example.com"}, headers=keyed).json
    ask("GET", f"/users/{user['id']}", headers=KEY)
    ask("GET", "/users?page_size=1", headers=KEY)
    ask("GET", "/users?status=deleted", headers=KEY)
    ask("PATCH", f"/users/{user['id']}", json={"name": "Ada L."}, headers=KEY)
    form = {"grant_type": "password", "username": "ada@example.com", "password": PASSWORD}
    granted = ask("POST", "/auth/token", data=form).json
    form = {"grant_type": "refresh_token", "refresh_token": granted["refresh_token"]}
    granted = ask("POST", "/auth/token", data=form).json
    ask("GET", "/users/me", headers={"Authorization": f"Bearer {granted['access_token']}"})
    ask("POST", "/auth/revoke", data={"token": granted["refresh_token"]})
    end_sessions(client, user["id"])
    change_email(client, user["id"])
    change_password(client, other["id"])
    ask("DELETE", f"/users/{user['id']}", headers=KEY)
    for _ in range(2):
        lines = {"data": LINES, "content_type": "application/x-ndjson", "headers": KEY}
        job = ask("POST", "/users/import", **lines).headers["Location"]
        ask("GET", job, headers=KEY)
    ask("DELETE", job, headers=KEY)
    ask("GET", "/users/export", headers=KEY, buffered=True)


def change_password(client: Any, user_id: str) -> None:
    """Change the password, and ask for links to a new one."""
    ask, path = partial(_ask, client), f"/users/{user_id}"
    form = {"grant_type": "password", "username": "b@example.com", "password": PASSWORD}
    granted = ask("POST", "/auth/token", data=form).json
    bearer = {"Authorization": f"Bearer {granted['access_token']}"}
    change = {"current_password": PASSWORD, "new_password": f"{PASSWORD} more"}
    ask("PUT", f"{path}/password", json=change, headers=bearer)
    ask("POST", "/auth/password/forgot", json={"email": "nobody@example.com"})
    ask("POST", "/auth/password/forgot", json={"email": "b@example.com"})
    ask("POST", f"{path}/recovery", headers=KEY)


def reset(client: Any, token: str) -> None:
    """Set a password by the link of an e-mail."""
    _ask(client, "POST", "/auth/password/reset", json={"token": token, "new_password": PASSWORD})


def end_sessions(client: Any, user_id: str) -> None:
    """Look at log-ins, and end them one by one and together."""
    ask, path = partial(_ask, client), f"/users/{user_id}/sessions"
    form = {"grant_type": "password", "username": "ada@example.com", "password": PASSWORD}
    for _ in range(3):
        granted = ask("POST", "/auth/token", data=form).json
    bearer = {"Authorization": f"Bearer {granted['access_token']}"}
    oldest = ask("GET", path, headers=bearer).json["items"][-1]
    ask("DELETE", f"{path}/{oldest['id']}", headers=bearer)
    ask("DELETE", f"{path}?keep=current", headers=bearer)
    ask("DELETE", path, headers=bearer)


def change_email(client: Any, user_id: str) -> None:
    """Have the address verified, and change it."""
    ask = partial(_ask, client)
    form = {"grant_type": "password", "username": "ada@example.com", "password": PASSWORD}
    granted = ask("POST", "/auth/token", data=form).json
    bearer = {"Authorization": f"Bearer {granted['access_token']}"}
    ask("POST", f"/users/{user_id}/email/verification", headers=bearer)
    wish = {"email": "ada@example.org", "current_password": PASSWORD}
    ask("POST", f"/users/{user_id}/email", json=wish, headers=bearer)
    ask("PATCH", f"/users/{user_id}", json={"email": "ada@example.com"}, headers=KEY)


def _ask(client: Any, method: str, path: str, **options: Any) -> Any:
    """Ask, and fail unless it is granted: of what is refused little is recorded."""
    answer = client.open(path, method=method, **options)
    assert answer.status_code < 400, f"{method} {path}: {answer.text}"
    return answer


def deliver(services: BackingServices) -> None:
    """Do what a worker does, once for each message."""
    with services.database.connection() as connection:
        outbox.backlog(connection)
        messages = outbox.claim(connection, limit=100, lease=timedelta(seconds=15))
    for each in messages:
        with suppress(Undeliverable):
            EVENT_HANDLERS[each.topic](services, each)
        sent = outbox.Settlement(each.id, outbox.MessageStatus.SENT, each.attempts)
        with services.database.connection() as connection:
            outbox.settle(connection, [sent])


def main(folder: Path = FOLDER) -> None:
    """Record on a server of our own."""
    with servers.PostgreSQLServer() as server:
        sys.stdout.write(f"{record(server.url, folder)}\n")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
