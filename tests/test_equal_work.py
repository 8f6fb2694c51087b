"""The check that peers store, log, count and trace what this service does."""

from __future__ import annotations

import re
import secrets
from types import SimpleNamespace

import httpx2
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from benchmarks import equal_work, subjects
from benchmarks.sink import Watch, live_collector

USER_ID = "01890000-0000-7000-8000-000000000001"
POSTED = '{"method": "POST", "path": "/users", "status": "201"}'
READ = '{"method": "GET", "route": "/users/{id}", "status": 200}'
METRICS = """\
# TYPE http_requests counter
http_requests_total{method="GET"} 9.0
http_requests_total{method="POST"} 1.0
http_requests_created{method="POST"} 1.7e9
# TYPE others counter
others_total 7.0
"""


def test_the_service_and_both_peers_of_equal_work_are_checked():
    checked = {each.key for each in subjects.WITH_DATABASE if each.counter}

    assert checked == {"ours", "twin", "fastapi_equal", "django_equal"}


def test_peers_of_equal_work_sample_as_the_service_does():
    for peer in (subjects.FASTAPI_EQUAL, subjects.DJANGO_EQUAL):
        assert peer.environment.items() >= subjects.SAMPLED.items()
        assert subjects.OURS.environment.items() >= subjects.SAMPLED.items()


def test_a_message_that_is_not_in_the_outbox_is_a_problem():
    def database(*topics):
        return SimpleNamespace(rows=lambda _statement, _values: [(each,) for each in topics])

    assert list(equal_work.message_problems(database("user.registered"), USER_ID)) == []
    assert list(equal_work.message_problems(database(), USER_ID))
    assert list(equal_work.message_problems(database(*["user.registered"] * 2), USER_ID))


def test_each_request_needs_an_access_line_that_is_json():
    reads = [READ] * equal_work.READS

    assert list(equal_work.line_problems("\n".join(["started", POSTED, *reads]))) == []
    assert list(equal_work.line_problems("\n".join(reads))) == ["0 of 1 lines say POST 201"]
    assert list(equal_work.line_problems("\n".join([POSTED, *reads[1:]])))
    assert list(equal_work.line_problems('127.0.0.1 "POST /users" 201\n' * 10))


def test_a_counter_is_added_up_over_its_labels_and_nothing_else():
    assert equal_work.counted(METRICS, "http_requests_total") == 10.0
    assert equal_work.counted(METRICS, "absent_total") == 0.0


def test_a_counter_that_grows_by_less_than_the_requests_is_a_problem():
    assert list(equal_work.count_problems(10.0)) == []
    assert list(equal_work.count_problems(9.0)) == ["/metrics counts 9 of 10 requests"]


@pytest.mark.parametrize("kind", ["server", "statement"])
def test_a_request_or_a_statement_without_a_span_is_a_problem(kind):
    spans = {"server": 10, "statement": 11, "other": 40}

    assert list(equal_work.span_problems(spans)) == []
    assert list(equal_work.span_problems(spans | {kind: 9})) == [
        f"the collector has 9 {kind} spans of 10 requests"
    ]


@pytest.fixture(scope="module")
def collector():
    with live_collector() as endpoint:
        yield endpoint


def export(trace_id):
    made = [
        Span(kind=Span.SPAN_KIND_SERVER, attributes=[KeyValue(key="http.route")]),
        Span(kind=Span.SPAN_KIND_CLIENT, attributes=[KeyValue(key="db.query.text")]),
        Span(kind=Span.SPAN_KIND_CLIENT, attributes=[KeyValue(key="db.statement")]),
        Span(kind=Span.SPAN_KIND_INTERNAL),
    ]
    for span in made:
        span.trace_id = bytes.fromhex(trace_id)
    resource = ResourceSpans(scope_spans=[ScopeSpans(spans=made)])
    return ExportTraceServiceRequest(resource_spans=[resource]).SerializeToString()


def post(collector, path, content):
    assert httpx2.post(f"{collector}{path}", content=content, timeout=60).status_code == 200


def test_the_collector_counts_the_spans_of_a_watched_trace(collector):
    ours, another = secrets.token_hex(16), secrets.token_hex(16)

    with Watch(collector, ours) as watch:
        post(collector, "/v1/traces", export(ours))
        post(collector, "/v1/traces", export(another))
        post(collector, "/v1/metrics", export(ours))

        assert watch.spans() == {"server": 1, "statement": 2, "other": 1}


def test_the_collector_counts_nothing_before_and_after_the_watch(collector):
    trace_id = secrets.token_hex(16)
    post(collector, "/v1/traces", export(trace_id))

    with Watch(collector, trace_id) as watch:
        assert watch.spans() == {}
    post(collector, "/v1/traces", export(trace_id))
    with Watch(collector, trace_id) as watch:
        assert watch.spans() == {}


@pytest.mark.parametrize(
    ("bare", "equal"), [("fastapi_sqlalchemy", "fastapi_equal"), ("django_plain", "django_equal")]
)
def test_a_peer_of_equal_work_runs_on_the_frameworks_of_the_bare_one(bare, equal):
    wanted = {
        re.split(r"[\[<>=]", line)[0]
        for line in (subjects.PEERS / bare / "requirements.in").read_text().splitlines()
    }

    assert wanted
    assert locked(bare, wanted) == locked(equal, wanted)


def locked(peer, names):
    lock = (subjects.PEERS / peer / "requirements.txt").read_text()
    pins = re.findall(r"^\S+==\S+", lock, re.MULTILINE)
    return {pin for pin in pins if pin.partition("==")[0] in names}


def test_each_peer_has_its_packages_locked():
    peers = [file.parent for file in subjects.PEERS.glob("*/main.py")]

    assert peers
    assert [each.name for each in peers if not (each / "requirements.txt").exists()] == []
