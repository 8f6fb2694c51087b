"""How long one side waits for the other."""

from __future__ import annotations

GRACE_SECONDS = 30.0
LEAST_BYTES_PER_SECOND = 4096
MOST_SECONDS = 3600.0


class Pace:
    """The time that a client has taken so far, and how much it may take.

    Only waiting for the client counts, not what this side needs to go on. A client has a time
    of grace, then must keep to a least rate, and has an end for all of it.

    Args:
        grace_seconds: What it may take although nothing moves.
    """

    def __init__(self, grace_seconds: float = GRACE_SECONDS) -> None:
        self._grace = grace_seconds
        self._waited = 0.0
        self._since: float | None = None
        self._moved = 0

    def begin(self, now: float) -> None:
        """Begin to wait."""
        self._since = now

    def end(self, now: float) -> None:
        """Wait no longer, for now."""
        if self._since is not None:
            self._waited += now - self._since
            self._since = None

    def move(self, count: int) -> None:
        """Count bytes that the client took or sent."""
        self._moved += count

    def left(self, now: float) -> float:
        """Return how many seconds the client still has, if nothing moves."""
        allowed = min(MOST_SECONDS, self._grace + self._moved / LEAST_BYTES_PER_SECOND)
        waiting = now - self._since if self._since is not None else 0.0
        return allowed - self._waited - waiting
