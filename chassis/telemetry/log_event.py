"""Log lines that are written often, without a search for the place that writes them."""

from __future__ import annotations

import logging
import time
from logging import LogRecord
from typing import Any


class LogEvent:
    """A line that one place in the code writes, again and again.

    For each record, logging looks through the stack for module, function and line. Here the first
    record is made so, and those that follow begin as its copy.

    Args:
        logger: Writes the lines.
        message: A fixed sentence.
    """

    def __init__(self, logger: logging.Logger, message: str) -> None:
        self._logger = logger
        self._message = message
        self._prepared: dict[str, Any] | None = None

    def info(self, **fields: object) -> None:
        """Write a line with these fields."""
        if not self._logger.isEnabledFor(logging.INFO):
            return
        if logging.logThreads or logging.logProcesses:  # records differ in more than is known here
            self._logger.info(self._message, extra=fields, stacklevel=2)
            return
        first = self._prepared or self._prepare()
        created = time.time()
        record = LogRecord.__new__(LogRecord)
        vars(record).update(
            first,
            created=created,
            msecs=float(int(created % 1 * 1000)),
            relativeCreated=first["relativeCreated"] + (created - first["created"]) * 1000,
            **fields,
        )
        self._logger.handle(record)

    def _prepare(self) -> dict[str, Any]:
        # The place is two frames further: behind this function, and `info`.
        file, line, function, _ = self._logger.findCaller(stacklevel=3)
        record = self._logger.makeRecord(
            self._logger.name, logging.INFO, file, line, self._message, (), None, function
        )
        self._prepared = dict(vars(record))
        return self._prepared
