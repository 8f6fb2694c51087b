"""Fields that every log line of a request, or of a message, carries."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from types import MappingProxyType

log_fields: ContextVar[Mapping[str, str]] = ContextVar("log_fields", default=MappingProxyType({}))


def add_log_fields(**fields: str) -> None:
    """Add fields to the following log lines of this request or message."""
    log_fields.set({**log_fields.get(), **fields})
