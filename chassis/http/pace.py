"""The time that one side of a connection waits for the other."""

from __future__ import annotations

GRACE_SECONDS = 30.0
LEAST_BYTES_PER_SECOND = 4096
MOST_SECONDS = 3600.0


class Pace:
    """The time that a client has taken so far, and the time that it may take.

    Only waiting for the client counts, not the service's own work. A client has a time of grace,
    must then keep to a minimum rate, and has a total that it may not exceed.

    Args:
        grace_seconds: Time that it may take although no byte moves.
    """

    def __init__(self, grace_seconds: float = GRACE_SECONDS) -> None:
        self._grace = grace_seconds
        self._waited = 0.0
        self._since: float | None = None
        self._moved = 0

    def begin(self, now: float) -> None:
        """Begin to wait for the client."""
        self._since = now

    def end(self, now: float) -> None:
        """Stop waiting for the client, for now."""
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
