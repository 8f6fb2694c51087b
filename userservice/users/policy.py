"""The operator's choices about addresses, handed in by the processes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class EmailPolicy:
    """How addresses are dealt with.

    Attributes:
        confirms: Whether a user's new address waits until it is confirmed, and registration asks
            for that, too.
        announces: Whether a former address is told that the user has another one.
    """

    confirms: bool
    announces: bool
