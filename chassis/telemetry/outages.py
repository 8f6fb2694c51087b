"""Log lines about what is away: one at the beginning of an outage, one at its end."""

from __future__ import annotations

import logging
import threading


class Outage:
    """Says once that something is away, and once that it is back; from any thread.

    Args:
        logger: Whose lines they are.
        away: The warning, and what goes on meanwhile.
        back: What is said at the end.
    """

    def __init__(self, logger: logging.Logger, *, away: str, back: str) -> None:
        self._logger = logger
        self._away = away
        self._back = back
        self._is_on = False
        self._lock = threading.Lock()

    def begin(self, **fields: object) -> None:
        """Note a failure; the first one is logged, with `fields`."""
        if self._turn(on=True):
            self._logger.warning(self._away, extra=fields)

    def end(self) -> None:
        """Note an answer; the first one after a failure is logged."""
        # Looked at without the lock: nearly every answer follows another.
        if self._is_on and self._turn(on=False):
            self._logger.info(self._back)

    def _turn(self, *, on: bool) -> bool:
        """Return whether this is a change."""
        with self._lock:
            is_new = self._is_on is not on
            self._is_on = on
        return is_new
