"""Writes down what this release asks of PostgreSQL.

Run it with python -m tests.upgrades.record, or by `make migration`.

The file is named after the newest migration. The next release proves with it that its schema
still serves this one; see docs/upgrades.md.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import event

from admin import AdminCommands
from app import create_app
from bootstrap import open_backing_services
from chassis.background import outbox
from chassis.backing_services import BackingServices
from chassis.storage import migrations
from config import AppConfig
from tests.support import servers
from userservice.resources import EVENT_HANDLERS

FOLDER = Path(__file__).resolve().parent
PASSWORD = "a long enough sentence"
KEY = {"X-API-Key": "recording"}
LINES = b'{"email": "c@example.com", "name": "Ada"}\nno user\n'


def record(url: str) -> list[str]:
    """Return the statements of all that a client can do, in their order."""
    config = AppConfig(
        database_url=url,
        redis_url="",
        api_key=KEY["X-API-Key"],
        rate_limit_enabled=False,
        web_concurrency=1,
    )
    services = open_backing_services(config)
    migrations.upgrade(services.database)
    statements: list[str] = []

    def note(_connection: Any, cursor: Any, sql: str, values: Any, *context_and_many: Any) -> None:
        every = values if context_and_many[1] else [values]
        statements.extend(" ".join(cursor.mogrify(sql, each).decode().split()) for each in every)

    event.listen(services.database.engine, "before_cursor_execute", note)
    act(create_app(config, services).test_client())
    deliver(services)
    AdminCommands(config, services).cleanup_old_data(days=0)
    services.close()
    return [each for each in statements if "alembic_version" not in each and "pg_" not in each]


def act(client: Any) -> None:
    """Do all that a client can do and that changes something."""
    ada = {"email": "ada@example.com", "name": "Ada", "password": PASSWORD, "source": "web"}
    user = client.post("/users", json=ada).json
    client.post("/users", json=ada | {"email": "b@example.com"}, headers={"Idempotency-Key": "b"})
    client.get(f"/users/{user['id']}", headers=KEY)
    client.get("/users?page_size=1", headers=KEY)
    client.get("/users?status=deleted", headers=KEY)
    client.patch(f"/users/{user['id']}", json={"name": "Ada L."}, headers=KEY)
    form = {"grant_type": "password", "username": "ada@example.com", "password": PASSWORD}
    granted = client.post("/auth/token", data=form).json
    form = {"grant_type": "refresh_token", "refresh_token": granted["refresh_token"]}
    granted = client.post("/auth/token", data=form).json
    client.get("/users/me", headers={"Authorization": f"Bearer {granted['access_token']}"})
    client.post("/auth/revoke", data={"token": granted["refresh_token"]})
    client.delete(f"/users/{user['id']}", headers=KEY)
    for _ in range(2):
        lines = {"data": LINES, "content_type": "application/x-ndjson", "headers": KEY}
        job = client.post("/users/import", **lines).headers["Location"]
        client.get(job, headers=KEY)
    client.delete(job, headers=KEY)
    client.get("/users/export", headers=KEY, buffered=True)


def deliver(services: BackingServices) -> None:
    """Do what a worker does, once for each message."""
    now = datetime.now(UTC)
    with services.database.connection() as connection:
        outbox.backlog(connection)
        messages = outbox.claim(connection, now=now, limit=10, lease=timedelta(seconds=15))
    for each in messages:
        EVENT_HANDLERS[each.topic](services, each)
        sent = outbox.Settlement(each.id, outbox.MessageStatus.SENT, each.attempts, now)
        with services.database.connection() as connection:
            outbox.settle(connection, [sent])


def main() -> None:
    """Record on a server of our own."""
    with servers.PostgreSQLServer() as server:
        statements = record(server.url)
    file = FOLDER / f"{migrations.head()}.sql"
    file.write_text("".join(f"{each};\n" for each in statements), encoding="utf-8")
    sys.stdout.write(f"{file}: {len(statements)} statements\n")


if __name__ == "__main__":
    main()
