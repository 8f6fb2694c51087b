"""Links that workers send: the same at each try, whichever worker makes it."""

from __future__ import annotations

from contextlib import contextmanager

import pytest

from tests.support.deployment import Worker
from tests.support.passwords import reset, row_of
from tests.support.waiting import eventually
from userservice.passwords import recovery

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@contextmanager
def running(folder, variables):
    """Run a worker; it ends as in a crash."""
    worker = Worker(folder, variables)
    try:
        yield
    finally:
        worker.kill()


def test_a_worker_killed_between_tries_leaves_the_same_token_to_the_next(
    tmp_path, services, config, provider, user
):
    variables = {
        "DATABASE_URL": config.database_url,
        "EMAIL_SERVICE_URL": provider.url,
        "OUTBOX_LEASE_SECONDS": "6",
        "PUBLIC_URL": "https://example.com",
    }
    recovery.ask_for_recovery(services.database, user.email)

    def resets():
        return [each for each in provider.attempts if each.document["template"] != "welcome"]

    provider.answer = 503
    with running(tmp_path, variables):
        eventually(resets)
    provider.answer = 200
    with running(tmp_path, variables):
        eventually(lambda: any(each.was_taken for each in resets()))

    tokens = {each.document["variables"]["link"].partition("#")[2] for each in resets()}
    assert len(resets()) >= 2
    assert len(tokens) == 1
    reset(services, tokens.pop())
    assert row_of(services, user).password_changed_at is not None
