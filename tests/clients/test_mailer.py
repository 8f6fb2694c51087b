from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from opentelemetry import context, propagate

from chassis.clients.http_client import HttpClient
from chassis.clients.mailer import HttpMailer, LoggingMailer
from chassis.clients.resilience import AskedToWait, BreakerOpen, BreakerState, CircuitBreaker
from chassis.errors import Unavailable
from tests.support.ports import HOST, free_port
from tests.support.provider import GARBAGE, HANG

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE_ID}-00f067aa0ba902b7-01"


@pytest.fixture
def breaker():
    return CircuitBreaker("email")


@pytest.fixture
def http():
    """A client that waits for half a second."""
    client = HttpClient(timeout=timedelta(seconds=0.5))
    yield client
    client.close()


@pytest.fixture
def mailer(provider, http, breaker):
    return HttpMailer(provider.url, http, breaker)


def send(mailer, key="a-key", to="ada@example.com"):
    return mailer.send("welcome", to=to, variables={"name": "Ada"}, key=key)


def test_an_email_is_posted_with_its_template_and_variables(mailer, provider):
    send(mailer)

    (mail,) = provider.attempts
    assert mail.document == {
        "to": "ada@example.com",
        "template": "welcome",
        "variables": {"name": "Ada"},
    }
    assert mail.headers["content-type"] == "application/json"


def test_a_token_travels_as_a_bearer_and_none_travels_without_one(provider, http, breaker):
    for token in ("", "s3cret-token"):
        send(HttpMailer(provider.url, http, breaker, token=token))

    sent = [mail.headers.get("authorization") for mail in provider.attempts]
    assert sent == [None, "Bearer s3cret-token"]


def test_the_key_travels_as_idempotency_key_on_every_try(mailer, provider):
    provider.answer = 503
    with pytest.raises(Unavailable):
        send(mailer, key="the-same")
    provider.answer = 200

    send(mailer, key="the-same")

    assert [mail.headers["idempotency-key"] for mail in provider.attempts] == ["the-same"] * 2


def test_the_provider_continues_the_trace(mailer, provider):
    token = context.attach(propagate.extract({"traceparent": TRACEPARENT}))

    send(mailer)
    context.detach(token)

    assert provider.attempts[0].headers["traceparent"].split("-")[1] == TRACE_ID


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_any_success_means_that_the_email_was_taken(mailer, provider, status):
    provider.answer = status

    assert send(mailer) is True


@pytest.mark.parametrize("status", [301, 302, 307, 400, 401, 404, 409, 422, 429, 500, 502, 503])
def test_any_other_answer_means_that_it_was_not(mailer, provider, status):
    provider.answer = status

    with pytest.raises(Unavailable, match=f"answered {status}"):
        send(mailer)


@pytest.mark.parametrize("answer", [GARBAGE, HANG])
def test_no_answer_in_time_or_none_that_makes_sense_is_a_failure(mailer, provider, answer):
    provider.answer = answer

    with pytest.raises(Unavailable, match="No answer"):
        send(mailer)


def test_a_provider_that_is_not_there_is_a_failure(http, breaker):
    mailer = HttpMailer(f"http://{HOST}:{free_port()}/send", http, breaker)

    with pytest.raises(Unavailable, match="No answer: ConnectError"):
        send(mailer)


def test_a_provider_that_keeps_failing_is_left_alone(mailer, provider, breaker):
    provider.answer = 500
    for _ in range(5):
        with pytest.raises(Unavailable):
            send(mailer)

    with pytest.raises(BreakerOpen):
        send(mailer)

    assert breaker.state is BreakerState.OPEN
    assert len(provider.attempts) == 5


def test_a_provider_that_refuses_emails_one_by_one_is_asked_about_the_next(
    mailer, provider, breaker
):
    provider.answer = 422
    for _ in range(10):
        with pytest.raises(Unavailable):
            send(mailer)

    assert breaker.state is BreakerState.CLOSED
    assert len(provider.attempts) == 10


def test_many_emails_share_one_connection(mailer, provider):
    for _ in range(3):
        send(mailer)

    assert provider.connections == 1
    assert len(provider.attempts) == 3


def in_a_minute():
    return format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)


@pytest.mark.parametrize("wait", [lambda: "60", in_a_minute], ids=["seconds", "date"])
@pytest.mark.parametrize("answer", [429, 503])
def test_a_provider_that_asks_for_time_is_given_it_by_all_emails(
    mailer, provider, breaker, answer, wait
):
    provider.answer, provider.retry_after = answer, wait()
    with pytest.raises(AskedToWait, match=f"answered {answer}") as asked:
        send(mailer)
    provider.answer = 200

    with pytest.raises(BreakerOpen) as refusal:
        send(mailer, key="another")

    waits = [each.value.retry_after or timedelta(0) for each in (refusal, asked)]
    assert timedelta(seconds=30) < waits[0] <= waits[1] <= timedelta(seconds=60)
    assert breaker.state is BreakerState.OPEN
    assert len(provider.attempts) == 1


def test_a_provider_cannot_stop_emails_for_more_than_a_day(mailer, provider):
    provider.answer, provider.retry_after = 429, "9" * 30

    with pytest.raises(AskedToWait) as asked:
        send(mailer)

    assert asked.value.retry_after == timedelta(days=1)


@pytest.mark.parametrize("wait", ["", "0", "soon", "-5", "Mon, 01 Jan 2001 00:00:00 GMT"])
def test_a_provider_that_names_no_time_is_asked_again_as_usual(mailer, provider, breaker, wait):
    provider.answer, provider.retry_after = 429, wait
    for _ in range(2):
        with pytest.raises(Unavailable, match="answered 429"):
            send(mailer)

    assert breaker.state is BreakerState.CLOSED
    assert len(provider.attempts) == 2


def test_a_provider_that_has_too_much_to_do_is_left_alone(mailer, provider, breaker):
    provider.answer = 429
    for _ in range(5):
        with pytest.raises(Unavailable):
            send(mailer)

    assert breaker.state is BreakerState.OPEN


def test_a_wait_belongs_to_the_answers_that_speak_of_all_emails(mailer, provider, breaker):
    provider.answer, provider.retry_after = 422, "60"
    for _ in range(2):
        with pytest.raises(Unavailable, match="answered 422"):
            send(mailer)

    assert breaker.state is BreakerState.CLOSED


def test_without_a_provider_an_email_is_skipped_and_logged_without_its_address(caplog):
    caplog.set_level(logging.INFO)
    name = "nobody-3907"  # which no folder is called: the record holds the path of the module

    is_sent = send(LoggingMailer(), to=f"{name}@example.com")

    assert is_sent is False
    (record,) = caplog.records
    assert record.message == "E-mail skipped: no EMAIL_SERVICE_URL"
    assert record.__dict__["template"] == "welcome"
    assert name not in str(record.__dict__)
