from __future__ import annotations

import pytest

from chassis.process.stop import CLOSE_SECONDS, FLUSH_SECONDS, StopBudget
from config import AppConfig, Environment

PRODUCTION = {
    "environment": Environment.PRODUCTION,
    "api_key": "key",
    "jwt_secret": "s" * 32,
    "database_url": "postgresql://app:pw@db/app",
}


def test_the_parts_of_a_stop_are_all_of_the_time_that_the_platform_gives():
    budget = StopBudget(grace_seconds=40, drain_seconds=7.5)

    assert budget.drain_seconds + budget.finish_seconds + CLOSE_SECONDS == 40


def test_a_process_ends_itself_after_its_work_is_done_and_before_the_platform_does():
    budget = StopBudget(grace_seconds=30, drain_seconds=5)
    closing_at = budget.drain_seconds + budget.finish_seconds

    assert closing_at + FLUSH_SECONDS < budget.worker_limit_seconds
    assert budget.worker_limit_seconds < budget.master_limit_seconds < budget.grace_seconds


@pytest.mark.parametrize(
    ("settings", "drain"),
    [
        ({}, 0),
        (PRODUCTION, 5),
        ({"drain_seconds": 3}, 3),
        (PRODUCTION | {"drain_seconds": 0}, 0),
    ],
)
def test_production_serves_for_a_while_unless_it_is_told_otherwise(settings, drain):
    budget = AppConfig(**settings).stop_budget

    assert budget == StopBudget(grace_seconds=30, drain_seconds=drain)


def test_parts_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"must be at least DRAIN_SECONDS \+ 6"):
        AppConfig(drain_seconds=5, termination_grace_seconds=10)
    assert AppConfig(drain_seconds=5, termination_grace_seconds=11).stop_budget.finish_seconds == 1
