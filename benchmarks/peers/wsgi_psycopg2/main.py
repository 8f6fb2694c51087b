"""A bare WSGI callable on psycopg2: what is left when every framework is taken away."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import psycopg2.extras
from contract import DATABASE_URL, NAME_LENGTH, email_key, is_allowed, uuid7
from email_validator import EmailNotValidError, validate_email
from psycopg2.errors import UniqueViolation
from psycopg2.pool import ThreadedConnectionPool

MAX_BODY_BYTES = 64 * 1024
INSERT = """
    INSERT INTO users (id, email, email_key, name, status, signup_source, tier, is_superuser,
                       version, created_at, updated_at)
    VALUES (%s, %s, %s, %s, 'active', 'unknown', 'free', false, 1, %s, %s)
"""
SELECT = """
    SELECT id, email, name, created_at, status FROM users WHERE id = %s AND status <> 'deleted'
"""
MEMBERS = ("id", "email", "name", "created_at", "status")
STATUS = {
    200: "200 OK",
    201: "201 Created",
    400: "400 Bad Request",
    401: "401 Unauthorized",
    404: "404 Not Found",
    409: "409 Conflict",
}
Answer = tuple[int, dict[str, Any]]

psycopg2.extras.register_uuid()
pool = ThreadedConnectionPool(20, 20, DATABASE_URL)  # one for each thread, kept open


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    status, document = _answer(environ)
    body = json.dumps(document, default=str).encode()
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    if status == 201:
        headers.append(("Location", f"/users/{document['id']}"))
    start_response(STATUS[status], headers)
    return [body]


def _answer(environ: dict[str, Any]) -> Answer:
    method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
    if method == "GET" and path == "/health":
        return 200, {"status": "healthy", "timestamp": datetime.now(UTC)}
    if method == "POST" and path == "/users":
        return create_user(environ)
    if method == "GET" and path.startswith("/users/"):
        return get_user(environ, path.removeprefix("/users/"))
    return 404, {"error": "Not found"}


def create_user(environ: dict[str, Any]) -> Answer:
    length = min(int(environ.get("CONTENT_LENGTH") or 0), MAX_BODY_BYTES)
    try:
        email, name = _read(environ["wsgi.input"].read(length))
    except ValueError as error:
        return 400, {"error": str(error)}
    user_id, now = uuid7(), datetime.now(UTC)
    try:
        with _cursor() as cursor:
            cursor.execute(INSERT, (user_id, email, email_key(email), name, now, now))
    except UniqueViolation:
        return 409, {"error": "User already exists"}
    values = (user_id, email, name, now.isoformat(), "active")
    return 201, dict(zip(MEMBERS, values, strict=True))


def get_user(environ: dict[str, Any], user_id: str) -> Answer:
    if not is_allowed(environ.get("HTTP_X_API_KEY")):
        return 401, {"error": "Unauthorized"}
    try:
        key = UUID(user_id)
    except ValueError:
        return 404, {"error": "User not found"}
    with _cursor() as cursor:
        cursor.execute(SELECT, (key,))
        row = cursor.fetchone()
    if row is None:
        return 404, {"error": "User not found"}
    document = dict(zip(MEMBERS, row, strict=True))
    return 200, document | {"created_at": document["created_at"].astimezone(UTC).isoformat()}


def _read(body: bytes) -> tuple[str, str]:
    data = json.loads(body)
    if not isinstance(data, dict):
        raise ValueError("The body must be an object")
    email, name = data.get("email"), data.get("name")
    if not isinstance(email, str) or not isinstance(name, str):
        raise ValueError("Email and name are required")
    email, name = email.strip(), name.strip()
    if not 0 < len(name) <= NAME_LENGTH:
        raise ValueError("The name is too short or too long")
    try:
        validate_email(email, check_deliverability=False)
    except EmailNotValidError:
        raise ValueError("The e-mail address is not valid") from None
    return email, name


@contextmanager
def _cursor() -> Iterator[Any]:
    connection = pool.getconn()
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            yield cursor
    finally:
        pool.putconn(connection, close=bool(connection.closed))
