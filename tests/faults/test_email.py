"""E-mail fails, or the worker does: creation goes on, and every mail arrives, with one key."""

from __future__ import annotations

import signal
from contextlib import closing

import pytest

from tests.support.load import Stored, missing_mails, registering, violations
from tests.support.mail_server import MailServer
from tests.support.provider import DRIP, GARBAGE, HANG
from tests.support.waiting import ANSWER_SECONDS, eventually

pytestmark = pytest.mark.integration

# Longer than any test waits for the provider, and for a stop.
ENDLESS = {
    "EMAIL_TIMEOUT_SECONDS": "300",
    "OUTBOX_LEASE_SECONDS": "3600",
    "TERMINATION_GRACE_SECONDS": "3600",
}


def await_all_mails(database_url, provider):
    eventually(lambda: not missing_mails(Stored.read(database_url), provider.taken))


def assert_promises_kept(load, database_url, provider):
    await_all_mails(database_url, provider)
    assert violations(load, Stored.read(database_url), provider.attempts) == []
    assert set(load.statuses) == {201}


def register_some(web, number):
    with registering(web.url) as load:
        eventually(lambda: load.count(201) >= number)
    return load


@pytest.mark.parametrize("answer", [503, HANG, GARBAGE])
def test_creation_does_not_wait_for_a_provider_that_fails(
    deployment, postgresql_server, provider, answer
):
    web, _ = deployment.both(**ENDLESS)
    provider.answer = answer

    with registering(web.url) as load:
        eventually(lambda: len(provider.attempts) > len(provider.taken))
        eventually(lambda: load.count(201) >= 25)
        provider.answer = 202

    assert_promises_kept(load, postgresql_server.url, provider)


def test_a_provider_that_drips_holds_no_mail_beyond_the_deadline(
    deployment, postgresql_server, provider
):
    web, worker = deployment.both(WORKER_CONCURRENCY="1")
    provider.answer = DRIP
    load = register_some(web, 25)
    eventually(lambda: len({mail.key for mail in provider.attempts}) > 4)  # more than threads

    provider.answer = 202

    assert_promises_kept(load, postgresql_server.url, provider)
    reasons = [each["exception"] for each in worker.logged("Failed to send welcome email")]
    assert any("No answer: TimeoutError" in each for each in reasons)


def test_what_a_killed_worker_had_in_flight_goes_out_with_the_same_keys(
    deployment, postgresql_server, provider
):
    web, worker = deployment.both()
    provider.delay_seconds = 0.5
    load = register_some(web, 60)
    eventually(lambda: provider.at_once)

    worker.kill()
    provider.delay_seconds = 0.0
    deployment.worker()

    assert_promises_kept(load, postgresql_server.url, provider)


def test_two_workers_send_each_mail_once(deployment, postgresql_server, provider):
    web, _ = deployment.both()
    deployment.worker().await_ready()

    load = register_some(web, 60)

    assert_promises_kept(load, postgresql_server.url, provider)
    assert len(provider.attempts) == len({mail.key for mail in provider.attempts})


def test_a_mail_server_gets_the_mail_of_each_user_whatever_happens_to_a_worker(
    deployment, postgresql_server
):
    with closing(MailServer()) as server:
        to_server = {"EMAIL_SERVICE_URL": server.url, "EMAIL_FROM": "no-reply@example.com"}
        web, worker = deployment.both(**to_server)
        load = register_some(web, 60)
        worker.kill()
        deployment.worker(**to_server)

        def missing():
            return set(Stored.read(postgresql_server.url).emails) - {
                mail.recipient for mail in list(server.received)
            }

        eventually(lambda: not missing())

    ids = {mail.message["Message-ID"] for mail in server.received}
    assert len(ids) == len({mail.recipient for mail in server.received})
    assert set(load.statuses) == {201}


def test_a_worker_that_is_stopped_finishes_what_is_in_flight(
    deployment, postgresql_server, provider
):
    web, worker = deployment.both(WORKER_CONCURRENCY="1")
    provider.delay_seconds = 0.5
    load = register_some(web, 40)
    eventually(lambda: provider.at_once)

    status, _ = worker.stop()
    sent = len(provider.attempts)
    stopped = worker.logged("Stopped: delivery")
    provider.delay_seconds = 0.0
    deployment.worker()

    assert status == 0
    assert stopped[0]["handed_back"] == 0
    assert_promises_kept(load, postgresql_server.url, provider)
    assert len(provider.attempts) > sent  # there was more to do
    assert len(provider.attempts) == len({mail.key for mail in provider.attempts})


def test_a_worker_that_handed_back_what_hangs_ends_well_and_does_not_wait_for_it(
    deployment, provider
):
    web, worker = deployment.both(**(ENDLESS | {"TERMINATION_GRACE_SECONDS": "10"}))
    provider.answer = HANG
    register_some(web, 5)
    eventually(lambda: provider.at_once)

    status, seconds = worker.stop()

    assert status == 0
    assert seconds < ANSWER_SECONDS
    assert worker.logged("Stopped: delivery")[0]["handed_back"] > 0


def test_a_worker_that_is_stopped_twice_ends_at_once(deployment, provider):
    web, worker = deployment.both(**ENDLESS)
    provider.answer = HANG
    register_some(web, 5)
    eventually(lambda: provider.at_once)

    def is_stopped_again():
        worker.send(signal.SIGTERM)  # is lost while the first one is pending
        return not worker.is_alive

    worker.send(signal.SIGTERM)
    eventually(is_stopped_again)

    assert worker.wait() == 128 + signal.SIGTERM
