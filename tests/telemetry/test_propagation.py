from __future__ import annotations

import subprocess
import sys

import pytest
from opentelemetry import baggage, context, propagate, trace
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased

from app import create_app
from chassis.telemetry.propagation import outgoing_headers
from observability import Telemetry
from tests.support.processes import ROOT, environment
from tests.support.spans import provider

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
OTHER_TRACE, OTHER_SPAN = "463ac35c9f6413ad48485a3953bb6124", "0020000000000001"
W3C = {"traceparent": f"00-{TRACE}-{SPAN}-01"}
B3_SINGLE = {"b3": f"{OTHER_TRACE}-{OTHER_SPAN}-1"}
B3_MULTI = {"X-B3-TraceId": OTHER_TRACE, "X-B3-SpanId": OTHER_SPAN, "X-B3-Sampled": "1"}
NOBODY = "/users/018f0000-0000-7000-8000-000000000000"


@pytest.fixture
def exporter():
    return InMemorySpanExporter()


@pytest.fixture
def sampler():
    return None


@pytest.fixture(autouse=True)
def propagators_as_they_were():
    before = propagate.get_global_textmap()
    yield
    propagate.set_global_textmap(before)


@pytest.fixture
def client(config, services, exporter, sampler):
    """A caller of the application with an SDK whose spans stay in memory."""
    telemetry = Telemetry(config)
    telemetry.provider = provider(exporter, sampler)
    app = create_app(config, services, telemetry)

    @app.get("/echo")
    def echo():
        return {"baggage": dict(baggage.get_all()), "outgoing": outgoing_headers()}

    return app.test_client()


def server_span(exporter):
    [span] = [each for each in exporter.get_finished_spans() if each.kind.name == "SERVER"]
    return span


def trace_of(response):
    return response.json["trace_id"]


@pytest.mark.parametrize(
    ("headers", "trace_id", "span_id"),
    [
        (W3C, TRACE, SPAN),
        (B3_MULTI, OTHER_TRACE, OTHER_SPAN),
        (B3_SINGLE, OTHER_TRACE, OTHER_SPAN),
        (W3C | B3_MULTI, TRACE, SPAN),
        (W3C | B3_SINGLE, TRACE, SPAN),
        ({"traceparent": "00-rubbish"} | B3_MULTI, OTHER_TRACE, OTHER_SPAN),
    ],
    ids=["w3c", "b3 multi", "b3 single", "w3c and b3 multi", "w3c and b3 single", "broken w3c"],
)
def test_a_request_continues_its_callers_trace(client, exporter, headers, trace_id, span_id):
    response = client.get(NOBODY, headers=headers)

    span = server_span(exporter)
    assert trace.format_trace_id(span.context.trace_id) == trace_id
    assert trace.format_span_id(span.parent.span_id) == span_id
    assert trace_of(response) == trace_id


@pytest.mark.parametrize(
    "headers",
    [
        {"traceparent": ""},
        {"traceparent": "00-" + "0" * 32 + "-" + "0" * 16 + "-01"},
        {"traceparent": f"ff-{TRACE}-{SPAN}-01"},
        {"traceparent": f"00-{TRACE}-{SPAN}-01-more"},
        {"traceparent": f"00-{TRACE.upper()[:-1]}g-{SPAN}-01"},
        {"traceparent": "x" * 5000},
        {"traceparent": '00-"><script>-\x85-01'},
        {"b3": "-".join(["1"] * 50)},
        {"X-B3-TraceId": "not hexadecimal", "X-B3-SpanId": "either"},
        {"X-B3-TraceId": OTHER_TRACE},
        {"baggage": "=,;=;,,%,=%ff;" * 100},
        {"baggage": ",".join(f"key{number}=value" for number in range(500))},
        W3C | {"tracestate": "=" * 600},
    ],
)
def test_malformed_headers_harm_nothing_and_the_request_gets_a_trace(client, exporter, headers):
    response = client.get(NOBODY, headers=headers)

    span = server_span(exporter)
    assert response.status_code == 401
    assert trace_of(response) == trace.format_trace_id(span.context.trace_id)
    assert int(trace_of(response), 16) != 0


def test_w3c_goes_out_and_b3_does_not(client):
    response = client.get("/echo", headers=B3_MULTI | {"baggage": "user.tier=pro"})

    outgoing = response.json["outgoing"]
    version, trace_id, span_id, flags = outgoing.pop("traceparent").split("-")
    assert (version, trace_id, flags) == ("00", OTHER_TRACE, "01")
    assert span_id != OTHER_SPAN
    assert outgoing == {"baggage": "user.tier=pro"}


@pytest.mark.parametrize("flags", ["00", "01"], ids=["not recorded", "recorded"])
def test_vendors_state_is_passed_on(client, exporter, flags):
    headers = {"traceparent": f"00-{TRACE}-{SPAN}-{flags}", "tracestate": "vendor=value"}

    response = client.get("/echo", headers=headers)

    assert response.json["outgoing"]["traceparent"].endswith(f"-{flags}")
    assert response.json["outgoing"]["tracestate"] == "vendor=value"
    assert bool(exporter.get_finished_spans()) is (flags == "01")


def test_baggage_comes_in_and_goes_out(client):
    response = client.get("/echo", headers={"baggage": "a=1,b=two%20words"})

    assert response.json["baggage"] == {"a": "1", "b": "two words"}
    assert response.json["outgoing"]["baggage"] == "a=1,b=two+words"


@pytest.mark.parametrize("member", ["user.email=ada@example.com", "who=ADA%40example.com;p=1"])
def test_addresses_in_baggage_end_here(client, member):
    response = client.get("/echo", headers={"baggage": f"a=1,{member},b=2"})

    assert response.json["baggage"] == {"a": "1", "b": "2"}


@pytest.mark.parametrize("sampler", [ParentBased(ALWAYS_OFF)])
def test_a_sampled_parent_is_recorded_though_others_are_not(client, exporter):
    client.get(NOBODY)
    client.get(NOBODY, headers=W3C)

    assert trace.format_trace_id(server_span(exporter).context.trace_id) == TRACE


@pytest.mark.parametrize(
    "headers",
    [
        {"traceparent": f"00-{TRACE}-{SPAN}-00"},
        {"b3": f"{TRACE}-{SPAN}-0"},
        {"X-B3-TraceId": TRACE, "X-B3-SpanId": SPAN, "X-B3-Sampled": "0"},
    ],
)
def test_an_unsampled_parent_is_not_recorded_and_its_trace_goes_on(client, exporter, headers):
    problem = client.get(NOBODY, headers=headers)
    echo = client.get("/echo", headers=headers)

    assert exporter.get_finished_spans() == ()
    assert trace_of(problem) == TRACE
    version, trace_id, span_id, flags = echo.json["outgoing"]["traceparent"].split("-")
    assert (version, trace_id, flags) == ("00", TRACE, "00")
    assert span_id != SPAN


@pytest.mark.parametrize(
    "headers", [{"b3": "0"}, {"X-B3-Sampled": "0"}, {"X-B3-Sampled": "false"}], ids=str
)
def test_a_caller_without_ids_can_deny_the_recording(client, exporter, headers):
    echo = client.get("/echo", headers=headers)

    assert exporter.get_finished_spans() == ()
    assert echo.json["outgoing"]["traceparent"].endswith("-00")


@pytest.mark.parametrize(
    "headers",
    [{"b3": "1"}, {"b3": "d"}, {"X-B3-Sampled": "1"}, {"X-B3-Flags": "1"}],
    ids=str,
)
@pytest.mark.parametrize("sampler", [ParentBased(ALWAYS_OFF)])
def test_a_caller_without_ids_can_ask_for_the_recording(client, exporter, headers):
    client.get(NOBODY, headers=headers)

    assert server_span(exporter).parent is None


@pytest.mark.parametrize("decision", [{"b3": "0"}, {"X-B3-Sampled": "0"}])
def test_what_w3c_says_counts_more_than_a_decision_without_ids(client, exporter, decision):
    client.get(NOBODY, headers=W3C | decision)

    assert trace.format_trace_id(server_span(exporter).context.trace_id) == TRACE


def test_without_an_sdk_a_denial_is_passed_on(config, services):
    app = create_app(config, services)
    app.add_url_rule("/echo", "echo", outgoing_headers)

    answer = app.test_client().get("/echo", headers={"b3": "0"})

    assert answer.get_json()["traceparent"].endswith("-00")


@pytest.mark.parametrize("headers", [{}, W3C, B3_SINGLE], ids=["none", "w3c", "b3"])
def test_without_propagators_nothing_comes_in_or_goes_out(
    config, services, exporter, monkeypatch, headers
):
    monkeypatch.setenv("OTEL_PROPAGATORS", "none")
    telemetry = Telemetry(config)
    telemetry.provider = provider(exporter)
    app = create_app(config, services, telemetry)
    app.add_url_rule("/echo", "echo", outgoing_headers)

    answer = app.test_client().get("/echo", headers=headers)

    assert (answer.status_code, answer.get_json()) == (200, {})
    assert server_span(exporter).parent is None
    assert trace.format_trace_id(server_span(exporter).context.trace_id) != TRACE
    assert propagate.extract({}) == context.Context()


def test_without_an_sdk_the_callers_trace_and_decision_are_passed_on(config, services):
    app = create_app(config, services)
    app.add_url_rule("/echo", "echo", outgoing_headers)
    client = app.test_client()

    sampled = client.get("/echo", headers=W3C).get_json()["traceparent"].split("-")
    unsampled = client.get("/echo", headers={"traceparent": f"00-{TRACE}-{SPAN}-00"})

    assert (sampled[1], sampled[3]) == (TRACE, "01")
    assert sampled[2] != SPAN
    assert unsampled.get_json()["traceparent"].endswith("-00")


def test_without_an_sdk_others_are_asked_to_record_a_new_trace(config, services):
    app = create_app(config, services)
    app.add_url_rule("/echo", "echo", outgoing_headers)

    answer = app.test_client().get("/echo")

    assert answer.get_json()["traceparent"].endswith("-01")


def test_nothing_of_a_request_is_current_after_it(client):
    client.get(NOBODY, headers=W3C | {"baggage": "a=1"})

    assert not trace.get_current_span().get_span_context().is_valid
    assert baggage.get_all() == {}
    assert propagate.extract({}, context.Context()) == {}


@pytest.mark.parametrize(
    ("variable", "fields"),
    [
        ("b3", "b3"),
        ("tracecontext", "traceparent,tracestate"),
        ("", "baggage,traceparent,tracestate"),
        (None, "baggage,traceparent,tracestate"),
        ("none", ""),
    ],
)
def test_otel_propagators_decides_what_goes_out(variable, fields):
    code = (
        "from observability import Telemetry; from config import AppConfig; "
        "from opentelemetry import propagate; Telemetry(AppConfig()); "
        "print(','.join(sorted(propagate.get_global_textmap().fields)))"
    )
    variables = {} if variable is None else {"OTEL_PROPAGATORS": variable}

    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment(variables),
        capture_output=True,
        text=True,
        check=True,
    )

    assert result.stdout.strip() == fields
