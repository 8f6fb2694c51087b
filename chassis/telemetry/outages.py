"""Log lines about an outage: one at its beginning, one at its end."""

from __future__ import annotations

import logging
import threading


class Outage:
    """Logs once that a dependency is away, and once that it is back; safe in any thread.

    Args:
        logger: Logs both lines.
        away: The warning at the beginning.
        back: The message at the end.
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
        """Note a success; the first one after a failure is logged."""
        # Read without the lock first: nearly every success follows another one.
        if self._is_on and self._turn(on=False):
            self._logger.info(self._back)

    def _turn(self, *, on: bool) -> bool:
        """Set the state; tell whether it changed."""
        with self._lock:
            is_new = self._is_on is not on
            self._is_on = on
        return is_new
