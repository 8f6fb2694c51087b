"""The judge of `make chaos`: it must notice what is broken, and nothing else."""

from __future__ import annotations

import pytest

from tests.support.chaos.fault import Spell
from tests.support.chaos.mail import RETRY_AFTER_SECONDS
from tests.support.chaos.promises import (
    AFTERMATH_SECONDS,
    impatient,
    repeated,
    unanswered,
    wrong_answers,
)
from tests.support.chaos.workers import is_anybody_served, stops_well
from tests.support.load import Attempt, Load
from tests.support.provider import Mail

LONG_AGO = Spell(0.0, 1.0)
THEN = Spell(100.0, 102.0)


def mail(at, answer=202, key="key"):
    return Mail(key, "ada@example.com", {}, {}, at, answer)


def attempt(sent_at, *, seconds=0.1, status=0):
    return Attempt("ada@example.com", sent_at, seconds, status, None, "")


def test_an_email_that_is_taken_twice_is_noticed():
    assert list(repeated([mail(101.0), mail(130.0)], set(), [LONG_AGO]))


@pytest.mark.parametrize(
    ("taken", "failed"),
    [
        ([mail(101.0)], set()),
        ([mail(101.0), mail(101.0, key="other")], set()),
        ([mail(101.0), mail(130.0)], set()),
        ([mail(100.0 - AFTERMATH_SECONDS), mail(130.0)], set()),
        ([mail(50.0), mail(60.0)], {"key"}),
    ],
)
def test_an_email_may_be_taken_again_when_its_result_was_not_stored(taken, failed):
    assert not list(repeated(taken, failed, [THEN]))


def test_an_email_that_is_tried_too_soon_after_429_is_noticed():
    tries = [mail(50.0, 429), mail(49.0 + RETRY_AFTER_SECONDS)]

    assert list(impatient(tries, [LONG_AGO]))


@pytest.mark.parametrize(
    "tries",
    [
        [mail(50.0, 429), mail(50.0 + RETRY_AFTER_SECONDS)],
        [mail(50.0, 429), mail(50.1, key="other")],
        [mail(50.0, 503), mail(50.1)],
        [mail(101.0, 429), mail(101.1)],
    ],
)
def test_an_email_may_be_tried_again_after_the_time_of_a_429(tries):
    assert not list(impatient(tries, [THEN]))


def test_a_request_without_an_answer_is_noticed_unless_its_process_was_killed():
    before, during, into = attempt(50.0), attempt(101.0), attempt(98.0, seconds=3.0)

    problems = list(unanswered([before, during, into], [THEN]))

    assert len(problems) == 1
    assert str(before) in problems[0]


@pytest.mark.parametrize(
    ("answer", "problem"),
    [(attempt(1.0, status=500), "{500}"), (attempt(1.0, seconds=60.0, status=201), "60.0 s")],
)
def test_a_wrong_or_late_answer_is_noticed(answer, problem):
    load = Load("http://unused")
    load.attempts += [attempt(1.0, status=201), attempt(1.0, status=503), answer]

    assert problem in " ".join(wrong_answers(load))


@pytest.mark.parametrize(
    ("status", "seconds", "is_served", "is_well"),
    [
        (0, 1.0, True, True),
        (0, 28.0, True, False),
        (1, 1.0, True, False),
        (0, 28.0, False, True),
        (1, 28.0, False, True),
        (1, 31.0, False, False),
        (-9, 1.0, False, False),
    ],
)
def test_a_worker_may_take_its_budget_to_stop_when_nobody_is_served(
    status, seconds, is_served, is_well
):
    assert stops_well(status, seconds, is_served=is_served) is is_well


@pytest.mark.parametrize(
    ("told", "is_served"),
    [
        (attempt(101.0, status=201), True),
        (attempt(101.0, status=503), False),
        (attempt(99.0, status=201), False),
        (attempt(101.0, seconds=30.0, status=201), False),
    ],
)
def test_an_answer_within_the_time_shows_that_somebody_is_served(told, is_served):
    assert is_anybody_served([told], THEN.began, THEN.ended) is is_served
