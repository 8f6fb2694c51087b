"""Workers on CPUs of their own, where there are such.

The threads of a process take the interpreter from each other; on several CPUs each hand-over wakes
up another CPU. A process that stays on one needs a third less.
"""

from __future__ import annotations

import logging
import os
import random
import sys
from collections import Counter
from collections.abc import Iterable

logger = logging.getLogger(__name__)

CAN_PIN = sys.platform == "linux"  # elsewhere `os` has no such functions


def choose_cpu(mode: str, workers: int, taken: Iterable[int | None]) -> int | None:
    """Return the CPU for a new worker: the one with the fewest workers; None: any.

    Called in the master, which is not pinned and starts one worker after the other.

    Args:
        mode: WEB_PIN: `off`, `auto` or `on`.
        workers: Number of workers that the service has.
        taken: CPUs of the workers that live, also of those that a reload will end.
    """
    cpus = _allowed()
    if mode == "off" or not cpus or workers > len(cpus):
        return None
    if mode == "auto" and not (workers == len(cpus) < (os.cpu_count() or 0)):
        return None
    loads = Counter(taken)
    fewest = min(loads[cpu] for cpu in cpus)
    # Any of them, because other containers may have the same choice.
    return random.choice([cpu for cpu in cpus if loads[cpu] == fewest])  # noqa: S311 - no secret


def pin(cpu: int | None) -> None:
    """Keep this process and its future threads on a CPU, if the system lets it."""
    if cpu is None or sys.platform != "linux":
        return
    try:
        os.sched_setaffinity(0, {cpu})
    except OSError as error:  # the CPU was taken away meanwhile, or a sandbox forbids it
        logger.warning("Worker not pinned", extra={"error_type": type(error).__name__})


def _allowed() -> list[int]:
    return sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else []
