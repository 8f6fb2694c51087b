"""One request, followed from its caller through web and worker to the e-mail provider."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from tests.support.collector import collector as run_collector
from tests.support.factories import ADA
from tests.support.waiting import eventually

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
FROM_CALLER = {"traceparent": f"00-{TRACE}-{CALLER}-01"}
Tree = dict[str, Any]
CLIENT = 3
ERROR = 2

pytestmark = pytest.mark.integration


@pytest.fixture
def sink():
    with run_collector() as running:
        yield running


def has_arrived(sink):
    """Tell whether all spans of both processes are there: the outermost ones end last."""
    return bool(sink.named("POST /users")) and len(sink.named("send_welcome_email")) > 1


@pytest.fixture
def follow(deployment, provider, sink):
    """Register a user whose first e-mail the provider refuses, and whose second it takes."""

    def register(**variables):
        web, worker = deployment.both(**(sink.variables | variables))
        provider.answer = 503
        body = ADA | {"source": "web"}
        created = httpx2.post(f"{web.url}/users", json=body, headers=FROM_CALLER)
        eventually(lambda: provider.attempts)
        provider.answer = 202
        eventually(lambda: provider.taken)
        # The ends of the processes have a deadline, beyond which spans are lost.
        assert sink.wait_for(lambda: has_arrived(sink))
        assert (worker.stop()[0], web.stop()[0]) == (0, 0)
        return created, web, worker

    return register


def test_a_registration_is_one_trace_from_the_caller_to_the_provider(follow, provider, sink):
    created, _, _ = follow()

    assert created.status_code == 201
    in_worker: Tree = {"SELECT users": {}, "user_service.send_welcome_email": {"POST": {}}}
    saved: Tree = {"INSERT users": {}, "send_welcome_email": in_worker}
    assert sink.tree(CALLER) == {
        "POST /users": {
            "user_service.create_user": {
                "validate_user_data": {},
                "create_user_record": {"user_service.save_user": saved},
            }
        }
    }
    assert {each.trace_id for each in sink.spans} == {TRACE}
    assert len({each.resource["service.instance.id"] for each in sink.spans}) == 2
    calls = {each.span_id for each in sink.named("POST") if each.kind == CLIENT}
    arrived = [mail.headers["traceparent"].split("-") for mail in provider.attempts]
    assert len(arrived) == 2
    assert {(trace_id, span_id) for _, trace_id, span_id, _ in arrived} == {
        (TRACE, span_id) for span_id in calls
    }
    assert {mail.headers["baggage"] for mail in provider.attempts} == {"user.signup_source=web"}


def test_every_log_line_of_a_registration_names_its_trace(follow, sink):
    created, web, worker = follow()

    user_id = created.json()["id"]
    request = [line for line in web.logged("") if "request_id" in line]
    (failure,) = worker.logged("Failed to send welcome email")
    (success,) = worker.logged("Welcome email sent")
    assert {line["message"] for line in request} == {
        "User created successfully",
        "Request answered",
    }
    lines = [*request, failure, success]
    assert {line["trace_id"] for line in lines} == {TRACE}
    assert {line["span_id"] for line in lines} <= {each.span_id for each in sink.spans}
    assert {line["trace_flags"] for line in lines} == {"01"}
    assert (success["level"], success["user_id"]) == ("INFO", user_id)
    assert success["attempts"] == 2
    assert success["duration_ms"] > 0
    assert failure["level"] == "WARNING"
    assert failure["user_id"] == user_id
    assert failure["baggage_user.signup_source"] == "web"
    assert "answered 503" in failure["exception"]


def test_the_spans_of_an_email_say_what_became_of_it(follow, sink):
    created, _, _ = follow()

    refused, taken = sorted(
        (each.attributes for each in sink.named("send_welcome_email")),
        key=lambda attributes: attributes["email.result"],
    )
    same = {
        "function.name": "send_welcome_email",
        "function.module": "userservice.users.events",
        "email.type": "welcome",
        "user.id": created.json()["id"],
    }
    failure = "The e-mail service answered 503"
    assert taken == same | {"function.result": "success", "email.result": "sent"}
    assert refused == same | {
        "function.result": "error",
        "email.result": "error",
        "email.error": failure,
        "error.type": "Unavailable",
        "error.message": failure,
    }
    calls = sink.named("user_service.send_welcome_email")
    assert {each.attributes["external_service.name"] for each in calls} == {"email"}
    assert {each.attributes["external_service.operation"] for each in calls} == {"send_email"}
    assert {each.status for each in calls} == {0, ERROR}


def test_without_propagators_an_email_goes_out_and_names_no_trace(deployment, provider):
    web, _ = deployment.both(OTEL_PROPAGATORS="none")

    created = httpx2.post(f"{web.url}/users", json=ADA, headers=FROM_CALLER)

    assert created.status_code == 201
    eventually(lambda: provider.taken)
    (mail,) = provider.attempts
    assert not {"traceparent", "baggage", "b3"} & mail.headers.keys()


def test_what_a_worker_counts_is_pushed(deployment, sink):
    deployment.worker(POD_NAME="worker-1", **sink.variables)

    assert sink.wait_for(lambda: bool(sink.latest("outbox_messages")))
    (metric,) = sink.latest("outbox_messages").values()
    assert metric.resource["service.instance.id"].startswith("worker-1-")


@pytest.mark.parametrize("allowed", ["false", "true"])
def test_a_recipient_is_in_the_workers_telemetry_only_when_the_operator_wants_it(
    follow, sink, allowed
):
    _, web, worker = follow(TELEMETRY_PII=allowed, LOG_LEVEL="DEBUG")

    recipients = {
        each.attributes.get("email.recipient") for each in sink.named("send_welcome_email")
    }
    assert recipients == ({ADA["email"]} if allowed == "true" else {None})
    assert (ADA["email"] in repr(sink.spans)) == (allowed == "true")
    assert ADA["name"] not in repr(sink.spans)
    assert ADA["email"] not in web.output + worker.output + repr(sink.metrics)
