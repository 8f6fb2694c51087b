"""How long tests wait for what must come: long enough for the busiest machine, and no longer."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

# No promise of the service: a wait ends as soon as what it waits for is there, so a large number
# costs nothing but the time until a test fails. Below pytest's timeout, whose report says less.
DEADLINE_SECONDS = 120.0
POLL_SECONDS = 0.01
# An answer or an end that took longer waited for something that it should not have waited for;
# what that is lasts longer still, so that no machine is too slow for these.
ANSWER_SECONDS = 60.0

Value = TypeVar("Value")


def eventually(condition: Callable[[], Value], seconds: float = DEADLINE_SECONDS) -> Value:
    """Wait until a condition holds and return its value; fail when it does not come to that."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(POLL_SECONDS)
    return value
