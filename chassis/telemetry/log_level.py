"""The log level, which operators switch at run time, for all processes of a pod at once."""

from __future__ import annotations

import logging
import mmap
from collections.abc import Callable

logger = logging.getLogger(__name__)

_DETAILED = "DEBUG"
_BRIEF = "INFO"

# Processes that are forked from this one share it, also those that replace others. A switch in
# each process would be off by one in a process that missed a signal.
_is_switched = mmap.mmap(-1, 1)


def switch() -> None:
    """Switch between the configured level and the other one; `apply` has this process follow."""
    _is_switched[0] ^= 1


def choose(configured: str) -> str:
    """Return the level that holds now: the configured one, or while it is switched the other."""
    other = _BRIEF if configured == _DETAILED else _DETAILED
    return other if _is_switched[0] else configured


def apply(configured: str, set_level: Callable[[str], None]) -> None:
    """Set the level that holds now, and log a change, while either level shows the line.

    Not safe in a signal handler: logging takes locks.
    """
    level = choose(configured)
    if logging.getLevelName(logging.getLogger().level) == level:
        return
    set_level(_DETAILED)
    logger.info("Log level set", extra={"log_level": level})
    set_level(level)
