"""A bound on simultaneous imports and exports, which keeps most threads free for short requests."""

from __future__ import annotations

from threading import BoundedSemaphore

from userservice.jobs.errors import TooManyTransfers


class Transfers:
    """Slots for the imports and exports of one process.

    Args:
        slots: Number of transfers at a time.
        max_bytes: Largest size of an upload.
    """

    def __init__(self, slots: int, *, max_bytes: int) -> None:
        self._slots = BoundedSemaphore(slots)
        self.max_bytes = max_bytes

    def begin(self) -> None:
        """Take a slot.

        Raises:
            TooManyTransfers: all slots are taken.
        """
        if not self._slots.acquire(blocking=False):
            raise TooManyTransfers

    def end(self) -> None:
        """Give a slot back."""
        self._slots.release()
