"""Calls to Redis and to other services are spans, which hold none of the values."""

from __future__ import annotations

import sys
from contextlib import closing
from datetime import timedelta

import pytest
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode

from chassis.clients.http_client import HttpClient
from chassis.clients.mailer import HttpMailer
from chassis.clients.redis import RedisManager
from chassis.clients.resilience import CircuitBreaker
from chassis.errors import Unavailable
from chassis.http.rate_limit import RateLimiter
from chassis.telemetry import instrumentation
from chassis.telemetry.tracing import span
from tests.support.collector import collector as run_collector
from tests.support.ports import HOST, free_port
from tests.support.processes import run
from tests.support.provider import MailProvider
from tests.support.spans import in_trace, memory

SECRET = "s3cr3t"
ADDRESS = "ada@example.com"
SECOND = timedelta(seconds=1)

pytestmark = pytest.mark.usefixtures("spans", "exported")


@pytest.fixture
def exported():
    """Clients that are made in the test are traced, as where spans are exported."""
    instrumentation.trace_clients(exported=True)
    yield
    instrumentation.trace_clients(exported=False)


@pytest.fixture
def redis_manager(redis_url):
    with closing(RedisManager(redis_url, max_connections=2, timeout=SECOND)) as manager:
        yield manager


@pytest.fixture
def http():
    with closing(HttpClient(timeout=SECOND)) as client:
        yield client


def told():
    """Return all that the spans say."""
    return "".join(each.to_json() for each in memory().get_finished_spans())


def test_a_redis_command_is_a_span_without_its_values(spans, redis_manager):
    with span("request"):
        redis_manager.client.set(f"key-{ADDRESS}", SECRET, ex=5)

    command = spans()["SET"]
    assert command.kind is SpanKind.CLIENT
    assert command.parent.span_id == spans()["request"].context.span_id
    assert command.attributes["db.system.name"] == "redis"
    assert command.attributes["db.query.text"] == "SET ? ? ? ?"
    assert ADDRESS not in told()
    assert SECRET not in told()


def test_commands_that_redis_gets_together_are_a_span_without_their_values(redis_manager):
    with span("request"), redis_manager.client.pipeline() as pipeline:
        pipeline.set("a", SECRET).get(ADDRESS).execute()

    assert "GET ?" in told()
    assert ADDRESS not in told()
    assert SECRET not in told()


def test_a_redis_command_that_fails_says_so_on_its_span(spans):
    nowhere = f"redis://:{SECRET}@{HOST}:{free_port()}"
    manager = RedisManager(nowhere, max_connections=1, timeout=SECOND)

    with closing(manager), span("request"), pytest.raises(Unavailable):
        manager.ping()

    assert spans()["PING"].status.status_code is StatusCode.ERROR
    assert SECRET not in told()


@pytest.mark.usefixtures("redis")
def test_what_rate_limits_ask_of_redis_is_in_the_requests_trace(spans, redis_url):
    limiter = RateLimiter({"login": "1/minute"}, redis_url=redis_url, timeout=SECOND)

    with span("request"):
        limiter.hit("login", f"client:{ADDRESS}")

    assert spans()["EVALSHA"].parent.span_id == spans()["request"].context.span_id
    assert ADDRESS not in told()


def test_an_outgoing_request_is_a_span_that_the_other_side_continues(spans, http, provider):
    with span("work"):
        http.post(provider.url, {"to": ADDRESS}, {"Idempotency-Key": "a-key"})

    call, headers = spans()["POST"], provider.attempts[0].headers
    assert call.kind is SpanKind.CLIENT
    assert call.parent.span_id == spans()["work"].context.span_id
    assert call.attributes["http.request.method"] == "POST"
    assert call.attributes["http.response.status_code"] == 200
    assert call.attributes["url.full"] == provider.url
    _, trace_id, span_id, flags = headers["traceparent"].split("-")
    assert trace_id == trace.format_trace_id(call.context.trace_id)
    assert span_id == trace.format_span_id(call.context.span_id)
    assert int(flags, 16) & trace.TraceFlags.SAMPLED
    assert not {name for name in headers if "b3" in name}
    assert ADDRESS not in told()


def test_secrets_in_the_url_of_a_service_are_not_in_spans(spans, http, provider):
    with_user = provider.url.replace("//", f"//user-{SECRET}:pass-{SECRET}@")

    http.post(f"{with_user}?token={SECRET}&x=1#{SECRET}", {"to": ADDRESS}, {})

    assert spans()["POST"].attributes["url.full"] == provider.url
    assert SECRET not in told()
    assert "authorization" in provider.attempts[0].headers


def test_secrets_are_not_in_the_spans_of_calls_that_fail_either(spans, http):
    url = f"http://user:{SECRET}@{HOST}:{free_port()}/send?token={SECRET}"

    with pytest.raises(Unavailable):
        http.post(url, {}, {})

    assert spans()["POST"].status.status_code is StatusCode.ERROR
    assert spans()["POST"].attributes["error.type"] == "ConnectError"
    assert SECRET not in told()


@pytest.mark.parametrize("answer", [302, 404, 429, 503])
def test_a_call_that_is_refused_says_so_on_its_span(spans, http, provider, answer):
    provider.answer = answer

    http.post(provider.url, {"to": ADDRESS}, {})

    call = spans()["POST"]
    is_refused = answer >= 400
    assert call.attributes["http.response.status_code"] == answer
    assert call.attributes.get("error.type") == (str(answer) if is_refused else None)
    assert call.status.status_code is (StatusCode.ERROR if is_refused else StatusCode.UNSET)


def test_a_call_says_which_server_it_goes_to(spans, http, provider):
    http.post(provider.url, {"to": ADDRESS}, {})

    call = spans()["POST"]
    assert call.attributes["server.address"] == HOST
    assert call.attributes["server.port"] == int(provider.url.rpartition(":")[2].split("/")[0])


def test_an_email_is_a_call_to_another_service(spans, http, provider):
    name = "user_service.send_{template}_email"
    mailer = HttpMailer(provider.url, http, CircuitBreaker("email"), span_name=name)

    mailer.send("welcome", to=ADDRESS, variables={"name": "Ada"}, key="a-key")

    sent = spans()["user_service.send_welcome_email"]
    assert sent.attributes == {
        "function.name": "send",
        "function.module": "chassis.clients.mailer",
        "function.result": "success",
        "external_service.name": "email",
        "external_service.operation": "send_email",
        "email.type": "welcome",
    }
    assert spans()["POST"].parent.span_id == sent.context.span_id


@pytest.mark.parametrize("is_remote", [True, False])
def test_a_trace_that_is_not_sampled_gets_no_spans_of_clients(
    spans, redis_manager, http, provider, is_remote
):
    with in_trace(sampled=False, is_remote=is_remote):
        redis_manager.ping()
        http.post(provider.url, {"to": ADDRESS}, {})

    assert spans() == {}
    assert provider.attempts[0].headers["traceparent"].endswith("-00")


def test_probes_of_other_services_belong_to_no_trace(serve, redis_url, provider):
    with run_collector() as sink:
        service = serve(REDIS_URL=redis_url, EMAIL_SERVICE_URL=provider.url, **sink.variables)
        checks = service.client.get("/ready").json()["checks"]
        service.client.get("/users/me")
        service.stop()

    assert checks == {"database": True, "redis": True, "external_apis": True}
    assert {each.name for each in sink.spans} == {"GET /users/me"}


def test_clients_are_left_as_they_are_when_nothing_is_exported(redis_url):
    """In a process of its own: what another test loaded stays loaded."""
    provider = MailProvider()
    code = f"""
import sys
from datetime import timedelta
from config import AppConfig
from observability import Telemetry
from chassis.clients.http_client import HttpClient
from chassis.http.rate_limit import RateLimiter
from chassis.clients.redis import RedisManager
Telemetry(AppConfig())
second = timedelta(seconds=5)
HttpClient(timeout=second).post("{provider.url}", {{"to": "x"}}, {{}})
RedisManager("{redis_url}", max_connections=1, timeout=second).ping()
RateLimiter({{"a": "1/minute"}}, redis_url="{redis_url}", timeout=second).hit("a", "b")
instruments = ("opentelemetry.instrumentation.redis",)
sdk = ("opentelemetry.sdk.trace", "opentelemetry.exporter")  # redis-py itself loads sdk.metrics
print([name for name in sys.modules if name.startswith(instruments + sdk)])
"""
    with closing(provider):
        result = run(sys.executable, "-c", code)

    assert (result.stdout, result.stderr) == ("[]\n", "")
    assert len(provider.attempts) == 1
