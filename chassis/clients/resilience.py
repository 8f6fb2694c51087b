"""Circuit breaker and backoff: how a failing dependency is left alone, and tried again."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from enum import IntEnum

from chassis.errors import Unavailable
from chassis.telemetry import instruments

MAX_BACKOFF = timedelta(minutes=5)


class BreakerState(IntEnum):
    """What a breaker does with calls; the number is its metric."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


class BreakerOpen(Unavailable):
    """The dependency failed a moment ago and was not called."""

    title = "A service that this depends on does not answer"


class CircuitBreaker:
    """Stops calling what keeps failing, and lets one call through now and then to see.

    Many threads call at once, so nothing is held while one of them waits for an answer.
    The state is that of one process.

    Args:
        name: Of the dependency, for metrics.
        failures: In a row, after which it opens.
        pause: Between two trial calls while it is open.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        name: str,
        *,
        failures: int = 5,
        pause: timedelta = timedelta(seconds=5),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._threshold = failures
        self._pause_seconds = pause.total_seconds()
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._next_trial = 0.0
        self._state = BreakerState.CLOSED

    @property
    def state(self) -> BreakerState:
        """What the breaker does with calls."""
        return self._state

    @contextmanager
    def call(self) -> Iterator[None]:
        """Guard a call: an exception counts as a failure of the dependency.

        Raises:
            BreakerOpen: the dependency is left alone for the moment.
        """
        self._admit()
        try:
            yield
        except Exception:
            self._settle(has_failed=True)
            raise
        self._settle(has_failed=False)

    def _admit(self) -> None:
        with self._lock:
            if self._state is BreakerState.CLOSED:
                return
            remaining = self._next_trial - self._clock()
            if remaining > 0:
                raise BreakerOpen(retry_after=timedelta(seconds=remaining))
            # One caller tries; should it never come back, the next may after another pause.
            self._next_trial = self._clock() + self._pause_seconds
            self._enter(BreakerState.HALF_OPEN)

    def _settle(self, *, has_failed: bool) -> None:
        with self._lock:
            self._failures = self._failures + 1 if has_failed else 0
            if not has_failed:
                self._enter(BreakerState.CLOSED)
            elif self._state is not BreakerState.CLOSED or self._failures >= self._threshold:
                self._next_trial = self._clock() + self._pause_seconds
                self._enter(BreakerState.OPEN)

    def _enter(self, state: BreakerState) -> None:
        if state is not self._state:
            self._state = state
            instruments.set_breaker(self._name, int(state))


def backoff(attempt: int, jitter: Callable[[], float] = random.random) -> timedelta:
    """Return how long to wait after a failed attempt: 1, 2, 4 … s, five minutes at most.

    Args:
        attempt: The number of attempts so far, 1 or more.
        jitter: Spreads callers that failed together; 0 to 1 becomes 0.8 to 1.2 times the span.
    """
    span = min(MAX_BACKOFF, timedelta(seconds=2.0 ** min(attempt - 1, 30)))
    return span * (0.8 + 0.4 * jitter())
