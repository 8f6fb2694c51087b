"""The results of a reader: requests, and a refusal where there is no request."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, NamedTuple

from chassis.http.upload import Upload


@dataclass(frozen=True, slots=True)
class Limits:
    """The largest parts of a request that are accepted: bytes, but `fields` is a number."""

    target: int = 4094
    field: int = 8190
    fields: int = 100
    head: int = 64 * 1024  # names and values of all fields
    body: int = 64 * 1024  # the application reads, or refuses, a longer one


@dataclass(slots=True)
class Request:
    """A request: whole, or only its head and an upload that is still arriving."""

    environ: dict[str, Any]
    keeps: bool  # whether the client wants to keep the connection
    upload: Upload | None = None

    @property
    def is_unread(self) -> bool:
        """Whether a part has yet to arrive, so that the connection can serve no other request."""
        return self.upload is not None and not self.upload.is_whole


class Refused(NamedTuple):
    """Bytes that are no request; nothing behind them can be read on the connection."""

    status: HTTPStatus
    method: str
