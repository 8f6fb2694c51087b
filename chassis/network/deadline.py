"""One point in time by which all of a call is over."""

from __future__ import annotations

import time
from datetime import timedelta


class Deadline:
    """The end of a call, however many steps it takes.

    A time limit for each step would begin anew with each byte that the other side sends.
    """

    def __init__(self, span: timedelta) -> None:
        self._at = time.monotonic() + span.total_seconds()

    def remaining(self) -> float:
        """Return the seconds that are left, more than 0.

        Raises:
            TimeoutError: none are.
        """
        left = self._at - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def within(self, span: timedelta) -> Deadline:
        """Return the earlier of this deadline and one in so much time.

        Raises:
            TimeoutError: this one is over.
        """
        return Deadline(min(span, timedelta(seconds=self.remaining())))
