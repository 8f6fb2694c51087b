"""Passwords that are refused (NIST SP 800-63B): common ones, and those made of context."""

from __future__ import annotations

import re
from collections.abc import Collection

from chassis.once import once

MIN_LENGTH = 8
MAX_LENGTH = 128


def is_guessable(password: str, *context: str, names: Collection[str] = ()) -> bool:
    """Tell whether a password is among the first that an attacker tries.

    Args:
        password: The wanted password.
        context: Texts that belong to the user, such as the address and the name; their words
            count as well.
        names: Names of the service; only whole names count.
    """
    folded = password.casefold()
    letters = _letters(folded)
    parts = (part for text in context for part in (text, *re.split(r"[\s@._-]+", text)))
    words = {_letters(each) for each in (*names, *parts)}
    # Digits and signs around a known word do not hide it: ada.lovelace1! is still her name.
    return folded in _common() or letters in words - {""}


def _letters(text: str) -> str:
    return "".join(character for character in text.casefold() if character.isalpha())


@once
def _common() -> frozenset[str]:
    # The lists take megabytes, which only a process that checks passwords needs.
    from zxcvbn.frequency_lists import FREQUENCY_LISTS  # noqa: PLC0415

    return frozenset(word for word in FREQUENCY_LISTS["passwords"] if len(word) >= MIN_LENGTH)
