"""What a reader makes of the bytes of a connection: requests, or one refusal."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, NamedTuple

from chassis.http.upload import Upload


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of a request is taken in, in bytes where it is not fields."""

    target: int = 4094
    field: int = 8190
    fields: int = 100
    head: int = 64 * 1024
    body: int = 64 * 1024  # a longer one is for the application to read, or to refuse


@dataclass(slots=True)
class Request:
    """A request: whole, or from its head on when it has an upload."""

    environ: dict[str, Any]
    keeps: bool  # whether the client wants to keep the connection
    upload: Upload | None = None

    @property
    def is_unread(self) -> bool:
        """Whether not all of it has arrived: the connection cannot serve another."""
        return self.upload is not None and not self.upload.is_whole


class Refused(NamedTuple):
    """No request, and the end of all that can be read on the connection."""

    status: HTTPStatus
    method: str
