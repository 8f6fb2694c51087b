"""The first requests of a process come together: nothing that is made on first use fails one."""

from __future__ import annotations

import pytest

from tests.support.first_requests import CLIENTS, first_answers

STARTS = 2

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.mark.parametrize("has_redis", [False, True], ids=["without Redis", "with Redis"])
@pytest.mark.usefixtures("redis")
def test_none_of_the_first_requests_fails(tmp_path, sqlite_url, redis_url, has_redis):
    variables = {
        "DATABASE_URL": sqlite_url,
        "REDIS_URL": redis_url if has_redis else "",
        "RATE_LIMIT_ENABLED": "true",
    }

    statuses = [each for _ in range(STARTS) for each in first_answers(tmp_path, **variables)]

    assert len(statuses) == STARTS * CLIENTS
    assert [each for each in statuses if each >= 500] == []
    assert {200, 201, 401, 404} <= set(statuses)
