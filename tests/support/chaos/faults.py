"""All faults, and the choice of those that happen next."""

from __future__ import annotations

import random
from collections.abc import Iterator

from tests.support.chaos import database, machines, mail, redis, web, workers

FAULTS = {
    **database.FAULTS,
    **redis.FAULTS,
    **mail.FAULTS,
    **workers.FAULTS,
    **web.FAULTS,
    **machines.FAULTS,
}
# Of three, as a rule, the second and the third happen together.
TOGETHER = 1 / 3


def choices(source: random.Random) -> Iterator[list[str]]:
    """Yield one fault, or two that can happen together; all come before one comes again."""
    while True:
        waiting = source.sample(list(FAULTS), len(FAULTS))
        while waiting:
            names = [waiting.pop()]
            others = [name for name in waiting if are_compatible(name, names[0])]
            if others and source.random() < TOGETHER:
                waiting.remove(others[-1])
                names.append(others[-1])
            yield names


def are_compatible(one: str, other: str) -> bool:
    """Tell whether two faults can happen together: each has the parts that it takes for itself."""
    return not FAULTS[one].takes & FAULTS[other].takes
