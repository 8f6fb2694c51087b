"""The judge of the fault tests: it must notice what is broken."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.support.load import Attempt, Load, Stored, violations
from tests.support.provider import Mail

ADA = "ada@example.com"


def mail(*, key="key", to=ADA, was_taken=True):
    return Mail(key, to, {}, {}, 0.0, 202 if was_taken else 503)


@pytest.fixture
def load():
    """A load that was told of one user."""
    told = Load("http://unused")
    told.attempts.append(Attempt(ADA, 0.0, 0.1, 201, None, ""))
    return told


def test_kept_promises_are_no_violation(load):
    stored = Stored(Counter({ADA: 1}), Counter({ADA: 1}))

    assert violations(load, stored, [mail(was_taken=False), mail(), mail()]) == []


@pytest.mark.parametrize(
    ("users", "messages", "mails", "violation"),
    [
        (0, 0, [], "is there 0 times"),
        (2, 2, [mail()], "is there 2 times"),
        (1, 0, [mail()], "has 0 messages"),
        (1, 2, [mail()], "has 2 messages"),
        (1, 1, [], "got no e-mail"),
        (1, 1, [mail(was_taken=False)], "got no e-mail"),
        (1, 1, [mail(), mail(key="other")], "with the keys ['key', 'other']"),
        (1, 1, [mail(key="")], "with the keys ['']"),
        (1, 1, [mail(), mail(to="eve@example.com")], "who is not there"),
    ],
)
def test_a_broken_promise_is_noticed(load, users, messages, mails, violation):
    present = {ADA: users} if users else {}
    stored = Stored(Counter(present), Counter({ADA: messages}))

    found = violations(load, stored, mails)

    assert any(violation in each for each in found)
