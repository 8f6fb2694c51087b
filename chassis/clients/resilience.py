"""Circuit breaker and backoff: a failing dependency is left alone, and tried again later."""

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
    """The state of a breaker: whether it lets calls through. The number is its metric."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


class BreakerOpen(Unavailable):
    """The dependency failed a moment ago and was not called."""

    title = "A service that this depends on does not answer"


class AskedToWait(Unavailable):
    """The dependency was called, and asked to be left alone for a while."""


class CircuitBreaker:
    """Stops calls to a dependency that keeps failing, and lets a trial call through now and then.

    Many threads call at once, so no lock is held during a call. The state belongs to one
    process.

    Args:
        name: The dependency's name, for metrics.
        failures: Number of failures in a row after which the breaker opens.
        pause: Time between two trial calls while the breaker is open.
        clock: Returns monotonic seconds.
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
        self._next_trial = self._paused_until = 0.0
        self._state = BreakerState.CLOSED
        instruments.set_breaker(name, int(self._state))

    @property
    def state(self) -> BreakerState:
        """The current state of the breaker."""
        return self._state

    @contextmanager
    def call(self) -> Iterator[None]:
        """Guard a call: an exception in the block counts as a failure of the dependency.

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

    def pause(self, span: timedelta) -> None:
        """Leave the dependency alone for so long, as it asked; no trial call before."""
        with self._lock:
            until = self._clock() + span.total_seconds()
            self._paused_until = max(self._paused_until, until)
            self._open()

    def _admit(self) -> None:
        with self._lock:
            if self._state is BreakerState.CLOSED:
                return
            remaining = self._next_trial - self._clock()
            if remaining > 0:
                raise BreakerOpen(retry_after=timedelta(seconds=remaining))
            # One caller tries. If it never returns, the next one may try after another pause.
            self._next_trial = self._clock() + self._pause_seconds
            self._enter(BreakerState.HALF_OPEN)

    def _settle(self, *, has_failed: bool) -> None:
        with self._lock:
            self._failures = self._failures + 1 if has_failed else 0
            if not has_failed:
                # A call that was on its way when the pause began does not end it.
                if self._clock() >= self._paused_until:
                    self._enter(BreakerState.CLOSED)
            elif self._state is not BreakerState.CLOSED or self._failures >= self._threshold:
                self._open()

    def _open(self) -> None:
        self._next_trial = max(self._clock() + self._pause_seconds, self._paused_until)
        self._enter(BreakerState.OPEN)

    def _enter(self, state: BreakerState) -> None:
        if state is not self._state:
            self._state = state
            instruments.set_breaker(self._name, int(state))


def backoff(attempt: int, jitter: Callable[[], float] = random.random) -> timedelta:
    """Return the delay after a failed attempt: 1, 2, 4 … seconds, five minutes at most.

    Args:
        attempt: The number of attempts so far, 1 or more.
        jitter: Spreads callers that failed together: 0 to 1 becomes 0.8 to 1.2 times the delay.
    """
    span = min(MAX_BACKOFF, timedelta(seconds=2.0 ** min(attempt - 1, 30)))
    return span * (0.8 + 0.4 * jitter())
