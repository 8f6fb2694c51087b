"""Formats of log lines: JSON for machines, text for people. Neither can be forged."""

from __future__ import annotations

import json
import logging
import re
import time
from typing import Any

from opentelemetry import baggage, trace
from pydantic_core import to_json

from chassis.telemetry.log_fields import log_fields

TEXT_FORMAT = "%(asctime)s - %(name)s - %(levelname)s - %(message)s"
COMPLAINT_SECONDS = 60.0
# Libraries that repeat a complaint for as long as their server is away.
THROTTLED = ("opentelemetry", "dramatiq")

# Attributes of every record; all others come from the caller's `extra`.
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
# Types that all JSON writers write alike. Other objects are written as their text, because their
# fields must not show.
_PLAIN = frozenset({str, int, bool, float, type(None)})
# PostgreSQL quotes the row that it refused.
_DETAIL = re.compile(r"^(DETAIL|CONTEXT|LINE \d+):.*$", re.MULTILINE)
# Colours, which Flask's development server gives its lines.
_COLOURS = re.compile(r"\x1b\[[\d;]*m")
_PLAIN_TEXT = re.compile(r"[\w./:<>{}+-]+", re.ASCII)
_CONTROLS = {number: repr(chr(number))[1:-1] for number in [*range(32), 127, 0x85, 0x2028, 0x2029]}


class JsonFormatter(logging.Formatter):
    """One JSON object a line: no value can break the line or forge another."""

    def __init__(self, constants: dict[str, object]) -> None:
        super().__init__()
        # The constants are the same on each line, so they are rendered once.
        self._constants = _dump(constants)[1:-1]
        self._second = (0, "")

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        span = trace.get_current_span().get_span_context()
        context = log_fields.get()
        entry: dict[str, object] = {
            "timestamp": self.formatTime(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "module": record.module,
            "function": record.funcName,
            "line": record.lineno,
            "trace_id": trace.format_trace_id(span.trace_id),
            "span_id": trace.format_span_id(span.span_id),
            "trace_flags": f"{span.trace_flags:02x}",
            **context,
        }
        for name, value in baggage.get_all().items():
            entry[f"baggage_{name}"] = value
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        for name, value in vars(record).items():
            # A field must not replace one of the line's own. That of the request gives way: a line
            # about somebody names that one, and not the caller.
            if name not in _OWN and (name in context or name not in entry):
                entry[name] = value
        return f"{_dump(entry)[:-1]},{self._constants}}}"

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's name
        """Return the traceback, without the rows that a database quotes."""
        return _DETAIL.sub(r"\1: (left out)", super().formatException(ei))

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
        """Return RFC 3339 in UTC, with milliseconds."""
        second, text = self._second
        if int(record.created) != second:
            second = int(record.created)
            text = time.strftime(datefmt or "%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._second = second, text
        return f"{text}.{int(record.msecs):03d}Z"


def _dump(entry: dict[str, object]) -> str:
    if not _PLAIN.issuperset(map(type, entry.values())):
        return _dump_slowly(entry)
    try:
        line = to_json(entry, inf_nan_mode="strings")
    except ValueError:  # a lone surrogate
        return _dump_slowly(entry)
    # Escape all but plain characters: none may pass for a line end, or control a terminal.
    is_plain = line.isascii() and b"\x7f" not in line
    return line.decode() if is_plain else _dump_slowly(entry)


def _dump_slowly(entry: dict[str, object]) -> str:
    try:
        return json.dumps(entry, default=str, allow_nan=False)
    except (TypeError, ValueError, RecursionError):  # keys of another type, NaN, a cycle
        return json.dumps({str(name): str(value) for name, value in entry.items()})


class TextFormatter(logging.Formatter):
    """Lines for people, with the event's fields behind the message; line ends are escaped."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """Return the line, without a traceback."""
        fields = (_field(*each) for each in vars(record).items() if each[0] not in _OWN)
        message = _COLOURS.sub("", record.message).translate(_CONTROLS)
        record.message = " ".join([message, *fields])
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's name
        """Return the traceback, indented, so that no text in it can pass for a log line."""
        traceback = _DETAIL.sub(r"\1: (left out)", super().formatException(ei))
        return "\n".join(f"  {line.translate(_CONTROLS)}" for line in traceback.split("\n"))


def _field(name: str, value: object) -> str:
    """Return a field as text; one that could pass for several is quoted."""
    text = str(value)
    return f"{name}={text if _PLAIN_TEXT.fullmatch(text) else json.dumps(text)}"


class ComplaintFilter(logging.Filter):
    """Lets through one line a minute of each library that repeats itself in an outage."""

    def __init__(self) -> None:
        super().__init__()
        self._silent_until = dict.fromkeys(THROTTLED, 0.0)

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether the record may be written."""
        library = record.name.partition(".")[0]
        if library not in self._silent_until:
            return True
        if time.monotonic() < self._silent_until[library]:
            return False
        self._silent_until[library] = time.monotonic() + COMPLAINT_SECONDS
        return True
