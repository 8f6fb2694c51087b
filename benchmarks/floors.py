"""Smaller applications in the service's place, on its worker: a floor for each part of the rest.

An answer that is ready needs the worker alone. A view of Flask as it comes adds what the framework
takes, and with the statement it reads or stores what the service does, with no check, no guard, no
limit, no telemetry.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID

from flask import Flask, Response, jsonify, request

from benchmarks import silent
from chassis.background import outbox
from chassis.http.context import context_of
from chassis.storage.database import DatabaseManager
from chassis.storage.ids import uuid7
from userservice.users import queries
from userservice.users.queries import UserRow
from userservice.users.registration import USER_REGISTERED
from userservice.users.service import key_columns

USER = UserRow(
    UUID(int=7), "ada@example.com", "Ada", "active", 1, *[datetime(2026, 1, 1, tzinfo=UTC)] * 2
)


def create_app(floor: str) -> Flask:
    """Build the service, which its worker needs, and put a floor in the place of its answers."""
    app = silent.create_app()
    make = FLOORS[floor]
    app.wsgi_app = make(context_of(app).services.database)  # type: ignore[method-assign]
    return app


def ready(_database: DatabaseManager) -> Callable[..., Iterable[bytes]]:
    """Make an application that only hands an answer out."""
    body = json.dumps(_document(USER)).encode()
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]

    def answer(_environ: Mapping[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", headers)
        return [body]

    return answer


def view(database: DatabaseManager, *, is_stored: bool) -> Callable[..., Iterable[bytes]]:
    """Make an application of Flask whose views of users use the database or do without."""
    app = Flask("floor", static_folder=None)
    find, store = (_find, _store) if is_stored else (_known, _dropped)

    @app.get("/users/<uuid:user_id>")
    def read(user_id: UUID) -> Response:
        return jsonify(_document(find(database, user_id)))

    @app.post("/users")
    def register() -> tuple[Response, int]:
        return jsonify(_document(store(database, request.get_json()))), 201

    @app.get("/health")
    def health() -> Response:
        return jsonify({"status": "healthy"})

    return app.wsgi_app


def _document(user: UserRow) -> dict[str, str]:
    return {
        "id": str(user.id),
        "email": user.email,
        "name": user.name,
        "created_at": user.created_at.isoformat(),
        "status": user.status,
    }


def _known(_database: DatabaseManager, _user_id: UUID) -> UserRow:
    return USER


def _dropped(_database: DatabaseManager, given: Mapping[str, str]) -> UserRow:
    return USER._replace(email=given["email"], name=given["name"])


def _find(database: DatabaseManager, user_id: UUID) -> UserRow:
    with database.prepared() as connection:
        found = queries.find_user(connection, user_id)
    assert found is not None
    return found


def _store(database: DatabaseManager, given: Mapping[str, str]) -> UserRow:
    now = datetime.now(UTC)
    user = UserRow(uuid7(), given["email"], given["name"], "active", 1, now, now)
    labels = {"signup_source": "unknown", "tier": "free"}
    rights = {"is_superuser": False, "password_hash": None}
    values = user._asdict() | key_columns(user.email) | labels | rights
    message = outbox.new_message(USER_REGISTERED, {"user_id": str(user.id)})
    with database.prepared() as connection:
        queries.insert_user(connection, values, message)
    return user


FLOORS: dict[str, Callable[[DatabaseManager], Callable[..., Iterable[bytes]]]] = {
    "ready": ready,
    "view": partial(view, is_stored=False),
    "statement": partial(view, is_stored=True),
}
