"""Faults of the e-mail provider."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.chaos.fault import Fault, Happening, Part
from tests.support.chaos.scene import Chaos
from tests.support.provider import DRIP, FLOOD, GARBAGE, HANG

# More than the pause before a second try otherwise: 1.2 s, and 5 s when the breaker is open.
RETRY_AFTER_SECONDS = 8


def provider_answers(
    answer: int | str, *, delay_seconds: float = 0.0, retry_after: str = ""
) -> Happening:
    """Return a fault of the e-mail provider."""

    @contextmanager
    def fault(chaos: Chaos) -> Iterator[None]:
        provider = chaos.provider
        provider.retry_after, provider.delay_seconds = retry_after, delay_seconds
        provider.answer = answer
        yield
        provider.answer = 200
        provider.retry_after, provider.delay_seconds = "", 0.0

    return fault


def _fault(happening: Happening, *, may_repeat: bool = False) -> Fault:
    return Fault(happening, frozenset({Part.PROVIDER}), may_repeat=may_repeat)


FAULTS = {
    "the provider answers 503": _fault(provider_answers(503)),
    "the provider answers 429 with Retry-After": _fault(
        provider_answers(429, retry_after=str(RETRY_AFTER_SECONDS))
    ),
    "the provider hangs": _fault(provider_answers(HANG)),
    "the provider drips": _fault(provider_answers(DRIP)),
    "the provider floods": _fault(provider_answers(FLOOD)),
    "the provider answers garbage": _fault(provider_answers(GARBAGE)),
    # Those that waited for a thread begin late in their claim, which may end before they do.
    "the provider is slow": _fault(provider_answers(202, delay_seconds=0.5), may_repeat=True),
}
