"""Exports: one line for each live user."""

from __future__ import annotations

import csv
import io
from collections.abc import Generator, Sequence
from typing import Any

from pydantic_core import to_json, to_jsonable_python

from chassis.storage import audit
from chassis.storage.database import DatabaseManager
from userservice.actions import Action
from userservice.jobs.models import UploadFormat
from userservice.jobs.rows import escape
from userservice.users import transfer
from userservice.users.transfer import EXPORTED


def export_users(
    database: DatabaseManager, upload_format: UploadFormat
) -> Generator[bytes, None, None]:
    """Yield the lines of all users who are live at one moment, in pieces of bounded size.

    The audit trail has a row about it before the first piece.

    Raises:
        Unavailable: as for `DatabaseManager.snapshot`, before the first piece or at any other.
    """
    audit.begin(database, Action.USERS_EXPORTED)
    is_csv = upload_format is UploadFormat.CSV
    render = _render_csv if is_csv else _render_ndjson
    header = (",".join(EXPORTED) + "\r\n").encode() if is_csv else b""
    for page in transfer.stream_users(database):
        yield header + render(page)
        header = b""
    if header:
        yield header


def _render_ndjson(page: Sequence[Sequence[Any]]) -> bytes:
    return b"".join(to_json(dict(zip(EXPORTED, user, strict=True))) + b"\n" for user in page)


def _render_csv(page: Sequence[Sequence[Any]]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    for user in page:
        writer.writerow([escape(value) for value in to_jsonable_python(tuple(user))])
    return text.getvalue().encode()
