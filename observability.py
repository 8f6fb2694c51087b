"""The SDK side of telemetry: how logs leave the process."""

from __future__ import annotations

import json
import logging
import time
from typing import TYPE_CHECKING, TextIO

from opentelemetry import trace

if TYPE_CHECKING:
    from config import AppConfig

SERVICE_NAME = "cloudnative-user-api"
TEXT_FORMAT = "%(asctime)s - %(name)s - %(levelname)s - %(message)s"

# What every record has; the rest is what the caller put into `extra`.
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """One JSON object a line: no value can break the line or forge another."""

    def __init__(self, constants: dict[str, str]) -> None:
        super().__init__()
        self._constants = constants

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        span = trace.get_current_span().get_span_context()
        entry: dict[str, object] = {
            "timestamp": self.formatTime(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "module": record.module,
            "function": record.funcName,
            "line": record.lineno,
            **self._constants,
            "trace_id": trace.format_trace_id(span.trace_id),
            "span_id": trace.format_span_id(span.span_id),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        extra = {name: value for name, value in vars(record).items() if name not in _OWN}
        return _dump(extra, entry) if extra else json.dumps(entry)

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
        """Return RFC 3339 in UTC, with milliseconds."""
        moment = time.strftime(datefmt or "%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        return f"{moment}.{int(record.msecs):03d}Z"


def _dump(extra: dict[str, object], entry: dict[str, object]) -> str:
    """Write both as one object; `extra` cannot replace what the entry says."""
    entry |= {name: value for name, value in extra.items() if name not in entry}
    try:
        return json.dumps(entry, default=str, allow_nan=False)
    except (TypeError, ValueError, RecursionError):  # keys of another type, NaN, a circle
        return json.dumps({name: str(value) for name, value in entry.items()})


def setup_logging(config: AppConfig, stream: TextIO) -> None:
    """Send every logger's records to `stream`, replacing what was set up before."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        JsonFormatter(
            {
                "app_version": config.app_version,
                "build_id": config.build_id,
                "environment": config.environment,
                "service_name": SERVICE_NAME,
                "service_version": config.app_version,
            }
        )
        if config.log_format == "json"
        else logging.Formatter(TEXT_FORMAT)
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(config.log_level)
    logging.captureWarnings(capture=True)
    for chatty in ("alembic", "httpx2", "httpcore2"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, root.level))
