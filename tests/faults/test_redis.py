"""Redis fails: rates are limited by each process for itself, and nothing else changes."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager

import httpx2
import pytest

from tests.support.load import Stored, missing_mails, registering, violations
from tests.support.servers import ValkeyServer
from tests.support.waiting import ANSWER_SECONDS, eventually

pytestmark = pytest.mark.integration


@pytest.fixture
def redis_server():
    """A Redis server of this test's own."""
    with ValkeyServer() as server:
        yield server


@contextmanager
def frozen(server):
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


@contextmanager
def down(server):
    server.stop(immediate=True)
    try:
        yield
    finally:
        server.start()


def readiness(web):
    return httpx2.get(f"{web.url}/ready").raise_for_status().json()["status"]


@pytest.mark.parametrize("outage", [frozen, down])
def test_users_are_registered_while_redis_is_away(
    deployment, postgresql_server, provider, redis_server, outage
):
    web, _ = deployment.both(
        REDIS_URL=redis_server.url,
        RATE_LIMIT_ENABLED="true",
        RATE_LIMIT_REGISTRATION="1000000/minute",
    )

    with registering(web.url) as load:
        with outage(redis_server):
            before = load.count(201)
            eventually(lambda: load.count(201) > before + 20)
            eventually(lambda: web.logged("Rate limits fall back"))
            eventually(lambda: readiness(web) == "degraded")
        eventually(lambda: readiness(web) == "ready")

    assert set(load.statuses) == {201}, web.errors
    assert max(each.seconds for each in load.attempts) < ANSWER_SECONDS
    eventually(lambda: not missing_mails(Stored.read(postgresql_server.url), provider.taken))
    assert violations(load, Stored.read(postgresql_server.url), provider.attempts) == []
