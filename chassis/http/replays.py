"""Stored answers: a request with an Idempotency-Key is worked on once, and answered again."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Protocol, TypeVar
from uuid import UUID

from flask import Response, request
from sqlalchemy import Connection

from chassis.errors import InvalidRequest
from chassis.http.auth import principal
from chassis.http.context import backing_services
from chassis.http.flask_app import PlainResponse
from chassis.http.web import read_input
from chassis.storage import idempotency

RowType = TypeVar("RowType")
RowType_co = TypeVar("RowType_co", covariant=True)

REPLAYED = "Idempotent-Replayed"
_IDEMPOTENCY_KEY = re.compile(r"[\x20-\x7e]{1,255}")
_FRAMING = frozenset({"Content-Length"})


class Create(Protocol[RowType_co]):
    """Stores a row. Calls `in_transaction` with it first, in the same transaction."""

    def __call__(
        self, *, in_transaction: Callable[[Connection, RowType_co], None] | None
    ) -> RowType_co:
        """Store the row and return it."""


def create_once(
    create: Create[RowType],
    render: Callable[[RowType], Response],
    subject: Callable[[RowType], UUID] | None = None,
) -> Response:
    """Create the row of a request; if its Idempotency-Key was used, repeat the first answer.

    The answer is stored in the row's transaction. A failure leaves the key free.

    Args:
        create: Creates the row.
        render: Renders the answer.
        subject: Returns the id under which the stored answer is found, see `idempotency.forget`.

    Raises:
        InvalidRequest: the key is not 1 to 255 printable characters.
        KeyReused: the key belongs to another request.
        KeyInFlight: the first request with the key is still being worked on.
    """
    attempt = _keyed_request()
    if attempt is None:
        return render(create(in_transaction=None))

    def reserve(connection: Connection, row: RowType) -> None:
        subject_id = subject(row) if subject is not None else None
        answer = dump_response(render(row))
        idempotency.reserve(connection, attempt, answer, subject_id=subject_id)

    try:
        idempotency.recall(backing_services().database, attempt)
        row = create(in_transaction=reserve)
    except idempotency.AlreadyAnswered as answered:
        return load_response(answered.answer)
    return render(row)


def dump_response(response: Response) -> str:
    """Turn a response into text, from which `load_response` makes it again."""
    kept = {name: value for name, value in response.headers.items() if name not in _FRAMING}
    return json.dumps([response.status_code, kept, response.get_data(as_text=True)])


def load_response(dumped: str) -> Response:
    """Return a response that was sent before, marked as a repetition."""
    status, headers, body = json.loads(dumped)
    return PlainResponse(body, status, headers | {REPLAYED: "true"})


def _keyed_request() -> idempotency.Request | None:
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return None
    if not _IDEMPOTENCY_KEY.fullmatch(key):
        raise InvalidRequest("Idempotency-Key must have 1 to 255 printable ASCII characters")
    caller = principal()
    name = caller.name if caller is not None else "anonymous"
    view = str(request.endpoint).rpartition(".")[2]
    return idempotency.Request(f"{name} {view}", key, read_input())
