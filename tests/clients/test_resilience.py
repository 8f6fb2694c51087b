from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.clients.resilience import (
    MAX_BACKOFF,
    BreakerOpen,
    BreakerState,
    CircuitBreaker,
    backoff,
)
from tests.support.clock import Clock
from tests.support.waiting import DEADLINE_SECONDS

jitters = st.floats(0, 1, allow_nan=False)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def breaker(clock):
    return CircuitBreaker("test", clock=clock)


def fail(breaker, times=1):
    for _ in range(times):
        with pytest.raises(ZeroDivisionError), breaker.call():
            raise ZeroDivisionError


def succeed(breaker):
    with breaker.call():
        pass


def test_a_breaker_opens_after_five_failures_in_a_row(breaker):
    fail(breaker, 4)
    before = breaker.state

    fail(breaker)

    assert before is BreakerState.CLOSED
    assert breaker.state is BreakerState.OPEN


def test_a_success_starts_the_count_of_failures_anew(breaker):
    fail(breaker, 4)
    succeed(breaker)

    fail(breaker, 4)

    assert breaker.state is BreakerState.CLOSED


def test_an_open_breaker_does_not_call_and_says_when_to_come_back(breaker, clock):
    fail(breaker, 5)
    clock.now += 2

    with pytest.raises(BreakerOpen) as refusal, breaker.call():
        pytest.fail("it was called")

    assert refusal.value.retry_after == timedelta(seconds=3)


@pytest.mark.parametrize(("seconds", "state"), [(4.999, "open"), (5.0, "closed"), (500, "closed")])
def test_an_open_breaker_tries_again_after_five_seconds(breaker, clock, seconds, state):
    fail(breaker, 5)
    clock.now += seconds

    with suppress(BreakerOpen):
        succeed(breaker)

    assert breaker.state.name.lower() == state


def test_a_trial_that_fails_opens_the_breaker_for_another_five_seconds(breaker, clock):
    fail(breaker, 5)
    clock.now += 5
    fail(breaker)
    clock.now += 4.9

    with pytest.raises(BreakerOpen), breaker.call():
        pytest.fail("it was called")
    clock.now += 0.1
    fail(breaker)

    assert breaker.state is BreakerState.OPEN


def test_a_trial_that_succeeds_closes_the_breaker_and_forgets_the_failures(breaker, clock):
    fail(breaker, 5)
    clock.now += 5

    succeed(breaker)
    fail(breaker, 4)

    assert breaker.state is BreakerState.CLOSED


def test_a_half_open_breaker_lets_one_caller_through(breaker, clock):
    fail(breaker, 5)
    clock.now += 5

    with breaker.call():
        during = breaker.state
        with pytest.raises(BreakerOpen), breaker.call():
            pytest.fail("a second one was let through")

    assert during is BreakerState.HALF_OPEN
    assert breaker.state is BreakerState.CLOSED


def test_one_of_many_callers_that_come_at_once_makes_the_trial(breaker, clock):
    fail(breaker, 5)
    clock.now += 5
    refused, leave = threading.Semaphore(0), threading.Event()

    def call():
        try:
            with breaker.call():
                return leave.wait(DEADLINE_SECONDS)
        except BreakerOpen:
            refused.release()
            raise

    with ThreadPoolExecutor(16) as threads:
        calls = [threads.submit(call) for _ in range(16)]
        for _ in range(15):
            assert refused.acquire(timeout=DEADLINE_SECONDS)
        leave.set()
        errors = [each.exception() for each in calls]

    assert errors.count(None) == 1


def test_a_trial_that_never_comes_back_does_not_block_the_next(breaker, clock):
    fail(breaker, 5)
    clock.now += 5

    with breaker.call():
        clock.now += 5
        succeed(breaker)
        after = breaker.state

    assert after is BreakerState.CLOSED


MINUTE = timedelta(minutes=1)


def test_a_dependency_that_asks_for_time_is_not_called_until_it_is_over(breaker, clock):
    breaker.pause(MINUTE)
    clock.now += 59.9

    with pytest.raises(BreakerOpen) as refusal, breaker.call():
        pytest.fail("it was called")
    clock.now += 0.1
    succeed(breaker)

    assert refusal.value.retry_after is not None
    assert refusal.value.retry_after.total_seconds() == pytest.approx(0.1)
    assert breaker.state is BreakerState.CLOSED


@pytest.mark.parametrize("ends", [succeed, fail])
def test_a_call_that_was_on_its_way_does_not_shorten_a_pause(breaker, clock, ends):
    with suppress(ZeroDivisionError), breaker.call():
        breaker.pause(MINUTE)
        if ends is fail:
            raise ZeroDivisionError
    clock.now += 59

    with pytest.raises(BreakerOpen), breaker.call():
        pytest.fail("it was called")

    assert breaker.state is BreakerState.OPEN


def test_of_two_pauses_the_later_end_counts(breaker, clock):
    breaker.pause(2 * MINUTE)
    breaker.pause(MINUTE)
    clock.now += 119

    with pytest.raises(BreakerOpen), breaker.call():
        pytest.fail("it was called")


def test_one_caller_tries_when_a_pause_is_over(breaker, clock):
    breaker.pause(MINUTE)
    clock.now += 60

    with breaker.call(), pytest.raises(BreakerOpen), breaker.call():
        pytest.fail("a second one was let through")


def test_callers_of_a_breaker_do_not_wait_for_each_other(breaker):
    everyone = threading.Barrier(8)

    def call():
        with breaker.call():
            return everyone.wait(DEADLINE_SECONDS)  # returns when all eight are inside

    with ThreadPoolExecutor(8) as threads:
        calls = [threads.submit(call) for _ in range(8)]
        places = sorted(each.result() for each in calls)

    assert places == list(range(8))


def test_failures_of_callers_at_once_are_all_counted(breaker):
    everyone = threading.Barrier(5)

    def call():
        with breaker.call():
            everyone.wait(DEADLINE_SECONDS)
            raise ZeroDivisionError

    with ThreadPoolExecutor(5) as threads:
        errors = [each.exception() for each in [threads.submit(call) for _ in range(5)]]

    assert [type(error) for error in errors] == [ZeroDivisionError] * 5
    assert breaker.state is BreakerState.OPEN


@given(st.integers(1, 10_000), jitters)
def test_a_wait_stays_within_a_fifth_of_its_span(attempt, jitter):
    span = min(MAX_BACKOFF, timedelta(seconds=2 ** min(attempt - 1, 20)))

    wait = backoff(attempt, lambda: jitter)

    assert 0.8 * span <= wait <= 1.2 * span


@given(st.integers(1, 8), jitters, jitters)
def test_each_wait_is_longer_than_the_one_before_whatever_the_jitter(attempt, first, second):
    assert backoff(attempt, lambda: first) < backoff(attempt + 1, lambda: second)


def test_waits_are_one_two_four_and_more_seconds_up_to_five_minutes():
    waits = [backoff(attempt, lambda: 0.5).total_seconds() for attempt in range(1, 12)]

    assert waits == pytest.approx([1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300])


def test_callers_that_failed_together_are_spread():
    waits = {backoff(5) for _ in range(50)}

    assert len(waits) > 25
