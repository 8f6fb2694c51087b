"""A fault: how it begins and ends, and the things that it takes for itself."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.support.chaos.scene import Chaos

Happening = Callable[["Chaos"], AbstractContextManager[None]]


class Part(Enum):
    """A part of the deployment. Two faults that take the same one do not happen together."""

    DATABASE = auto()
    REDIS = auto()
    PROVIDER = auto()
    WEB = auto()
    WORKERS = auto()
    CLOCKS = auto()
    NAMES = auto()
    DISK = auto()


@dataclass(frozen=True, slots=True)
class Fault:
    """A thing that goes wrong for a while.

    Args:
        happening: Begins it; the end of the block heals it.
        takes: The parts that it breaks, or needs unbroken for its beginning or end.
        may_repeat: Whether an e-mail may be taken twice, for its result cannot be stored.
        replaces_web: Whether other web processes serve afterwards.
    """

    happening: Happening
    takes: frozenset[Part]
    may_repeat: bool = False
    replaces_web: bool = False


@dataclass(frozen=True, slots=True)
class Spell:
    """The time of some faults, in seconds since the epoch."""

    began: float
    ended: float

    def touches(self, began: float, ended: float | None = None) -> bool:
        """Tell whether a moment, or a time, has to do with it."""
        return began <= self.ended and (began if ended is None else ended) >= self.began
