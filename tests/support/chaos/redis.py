"""Faults of Redis."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.chaos.fault import Fault, Part
from tests.support.chaos.scene import Chaos, send


@contextmanager
def redis_freezes(chaos: Chaos) -> Iterator[None]:
    """Freeze Redis."""
    send(chaos.redis.pid, signal.SIGSTOP)
    yield
    send(chaos.redis.pid, signal.SIGCONT)


@contextmanager
def redis_crashes(chaos: Chaos) -> Iterator[None]:
    """End Redis as a crash would."""
    chaos.redis.stop(immediate=True)
    yield
    chaos.redis.start()


FAULTS = {
    "Redis freezes": Fault(redis_freezes, frozenset({Part.REDIS})),
    "Redis crashes": Fault(redis_crashes, frozenset({Part.REDIS})),
}
