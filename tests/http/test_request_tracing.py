from __future__ import annotations

import signal
import sys

import httpx2
import pytest

from tests.conftest import API_KEY
from tests.support.collector import ONE_PROTOCOL
from tests.support.collector import collector as run_collector
from tests.support.factories import ADA
from tests.support.processes import run
from tests.support.serving import in_parallel
from tests.support.waiting import eventually

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
FROM_CALLER = {"traceparent": f"00-{TRACE}-{CALLER}-01"}
SERVICE = {"X-API-Key": API_KEY}
NOBODY = "/users/018f0000-0000-7000-8000-000000000000"
SERVER, CLIENT, INTERNAL = 2, 3, 1


@pytest.fixture
def sink():
    """A collector of one protocol, for what does not depend on it."""
    with run_collector() as running:
        yield running


def test_one_request_is_one_trace_from_its_caller_to_the_database(serve, collector):
    service = serve(WEB_CONCURRENCY="2", DELIVER_IN_WEB="false", **collector.variables)

    created = service.client.post("/users", json=ADA | {"source": "web"}, headers=FROM_CALLER)
    refused = service.client.post("/users", json=ADA, headers=FROM_CALLER)

    assert (created.status_code, refused.status_code) == (201, 409)
    assert refused.json()["trace_id"] == TRACE
    assert collector.wait_for(lambda: len(collector.spans) == 15)
    assert {span.trace_id for span in collector.spans} == {TRACE}
    requests = [line for line in service.lines if "request_id" in line]
    assert {line["trace_id"] for line in requests} == {TRACE}
    assert {line["span_id"] for line in requests} <= {span.span_id for span in collector.spans}
    assert collector.tree(CALLER) == {
        "POST /users": {
            "user_service.create_user": {
                "validate_user_data": {},
                "create_user_record": {"user_service.save_user": {"BEGIN": {}, "INSERT users": {}}},
            }
        }
    }


@pytest.mark.parametrize("collector", ONE_PROTOCOL, indirect=True)
def test_the_spans_of_a_new_user_say_what_happened(serve, collector):
    service = serve(DELIVER_IN_WEB="false", **collector.variables)

    response = service.client.post(
        "/users?token=secret&tab=1", json=ADA | {"source": "mobile"}, headers=FROM_CALLER
    )
    assert collector.wait_for(lambda: len(collector.spans) == 8)

    [request] = collector.named("POST /users")
    [statement] = collector.named("INSERT users")
    assert request.kind == SERVER
    assert (
        request.attributes.items()
        >= {
            "http.request.method": "POST",
            "http.response.status_code": 201,
            "http.route": "/users",
            "url.path": "/users",
            "url.query": "tab=REDACTED&token=REDACTED",
            "url.scheme": "http",
            "network.protocol.version": "1.1",
            "server.port": service.port,
        }.items()
    )
    assert not {"http.method", "http.status_code", "http.target"} & request.attributes.keys()
    assert statement.kind == CLIENT
    assert statement.attributes["db.system.name"] == "sqlite"
    assert statement.attributes["db.query.text"].startswith("INSERT INTO users")
    [record] = collector.named("create_user_record")
    assert record.kind == INTERNAL
    assert record.attributes == {
        "function.name": "register_user",
        "function.module": "userservice.users.registration",
        "function.result": "success",
        "user.id": response.json()["id"],
        "user.status": "active",
        "user.signup_source": "mobile",
    }
    [validation] = collector.named("validate_user_data")
    assert "email" in validation.attributes["validation.fields"]
    assert validation.attributes["validation.result"] == "valid"


def test_a_refused_body_is_explained_on_its_span(serve, sink):
    service = serve(**sink.variables)

    service.client.post("/users", json={"email": "not an address", "name": "Ada"})
    assert sink.wait_for(lambda: bool(sink.named("POST /users")))

    [validation] = sink.named("validate_user_data")
    assert validation.attributes["validation.result"] == "invalid"
    assert validation.attributes["error.type"] == "InvalidRequest"
    assert "validation.error" in validation.attributes
    [request] = sink.named("POST /users")
    assert request.status == 0  # a client's mistake is not the server's error


def test_what_callers_make_up_becomes_no_span_name_and_no_path(serve, sink):
    service = serve(**sink.variables)

    service.client.get("/nope/ada@example.com?q=secret-3907")
    brewed = service.client.request("BREW", "/users")
    service.client.get("/users/not-an-id", headers=SERVICE)
    service.client.get("/docs/ada@example.com")
    service.client.get(NOBODY, headers=SERVICE)
    assert sink.wait_for(lambda: len(sink.named("GET /users/<uuid:user_id>")) == 1)

    names = {span.name for span in sink.spans if span.kind == SERVER}
    assert names == {"GET", "GET /docs/<asset>", "GET /users/<uuid:user_id>"}
    assert brewed.status_code == 501  # refused by the server, so it never became a request
    paths = {span.attributes.get("url.path") for span in sink.spans if span.kind == SERVER}
    assert paths == {"", NOBODY}
    assert "secret-3907" not in str(sink.spans)
    assert "ada@example.com" not in str(sink.spans)


def test_probes_and_scrapes_make_no_spans(serve, sink):
    service = serve(**sink.variables)

    for path in ("/health", "/ready", "/metrics", "/version"):
        service.client.get(path, headers=FROM_CALLER)
    service.client.get("/users/me/health?next=/ready")
    assert sink.wait_for(lambda: bool(sink.spans))
    service.stop()

    assert [span.name for span in sink.spans] == ["GET"]


def test_every_span_arrives_though_the_process_is_told_to_end(serve, collector):
    later = {"OTEL_BSP_SCHEDULE_DELAY": "60000"}
    service = serve(WEB_CONCURRENCY="2", **(collector.variables | later))
    url = str(service.client.base_url)
    statuses = in_parallel(60, 4, lambda client, _: client.get(NOBODY).status_code, url)

    service.stop()

    assert statuses == [401] * 60
    requests = [span for span in collector.spans if span.kind == SERVER]
    assert len({span.span_id for span in requests}) == 60
    assert service.process.returncode == 0


def test_each_worker_has_a_name_of_its_own_and_all_have_the_pods(serve, collector):
    pod = {"POD_NAME": "web-1", "POD_NAMESPACE": "users", "NODE_NAME": "node-7"}
    about = {"APP_VERSION": "1.2.3", "ENVIRONMENT": "staging"}
    service = serve(WEB_CONCURRENCY="3", **(collector.variables | pod | about))
    url = str(service.client.base_url)

    def is_complete():
        in_parallel(12, 12, lambda client, _: client.get(NOBODY).status_code, url)
        return len(instances(collector.spans)) == 3 and len(instances(collector.metrics)) == 3

    eventually(is_complete)

    assert instances(collector.spans) == {f"web-1-{pid}" for pid in service.workers}
    assert instances(collector.metrics) == instances(collector.spans)
    resource = collector.spans[0].resource
    assert (
        resource.items()
        >= {
            "service.name": "cloudnative-user-api",
            "service.version": "1.2.3",
            "deployment.environment": "staging",
            "deployment.environment.name": "staging",
            "k8s.pod.name": "web-1",
            "k8s.namespace.name": "users",
            "k8s.node.name": "node-7",
        }.items()
    )


def instances(sent):
    return {each.resource["service.instance.id"] for each in sent}


def test_spans_and_metrics_of_a_process_name_the_same_instance(serve, sink):
    service = serve(**sink.variables)

    service.client.get(NOBODY)

    assert sink.wait_for(lambda: bool(sink.spans) and bool(sink.metrics))
    assert instances(sink.spans) == instances(sink.metrics)


def test_what_the_environment_says_of_the_resource_is_right(serve, collector):
    service = serve(
        APP_VERSION="1.2.3",
        OTEL_SERVICE_NAME="renamed",
        OTEL_RESOURCE_ATTRIBUTES="team=accounts,service.version=9,service.instance.id=i-1",
        OTEL_EXPORTER_OTLP_HEADERS="x-tenant=acme",
        **collector.variables,
    )

    service.client.get(NOBODY)

    assert collector.wait_for(lambda: bool(collector.spans))
    resource = collector.spans[0].resource
    assert resource["service.name"] == "renamed"
    assert resource["service.version"] == "9"
    assert resource["team"] == "accounts"
    assert resource["service.instance.id"] == f"i-1-{service.workers[0]}"
    assert collector.headers[0]["x-tenant"] == "acme"


def test_the_configured_share_of_traces_is_recorded(serve, sink):
    service = serve(
        OTEL_TRACES_SAMPLER="parentbased_traceidratio",
        OTEL_TRACES_SAMPLER_ARG="0.25",
        **sink.variables,
    )
    url = str(service.client.base_url)

    answers = in_parallel(400, 4, lambda client, _: client.get(NOBODY).json()["trace_id"], url)
    service.client.get(NOBODY, headers=FROM_CALLER)

    # The last one, so all others that are recorded have arrived, too.
    assert sink.wait_for(lambda: TRACE in {span.trace_id for span in sink.spans})
    recorded = {span.trace_id for span in sink.spans}
    assert 60 <= len(recorded - {TRACE}) <= 140  # 100 are expected, the deviation is 9
    assert recorded - {TRACE} <= set(answers)


@pytest.mark.parametrize(
    "variables",
    [
        {"OTEL_SDK_DISABLED": "true"},
        {"OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none"},
    ],
)
def test_telemetry_that_is_switched_off_sends_nothing(serve, sink, variables):
    service = serve(**(sink.variables | variables))

    response = service.client.get(NOBODY, headers=FROM_CALLER)
    service.stop()

    assert response.json()["trace_id"] == TRACE
    assert sink.requests == 0


def test_one_signal_can_be_switched_off_alone(serve, sink):
    service = serve(OTEL_TRACES_EXPORTER="none", **sink.variables)

    service.client.get(NOBODY)
    arrived = sink.wait_for(lambda: bool(sink.metrics))
    service.stop()

    assert arrived
    assert sink.spans == []


def test_an_endpoint_for_one_signal_sends_that_one(serve, sink):
    service = serve(
        OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"{sink.endpoint}/v1/traces",
        OTEL_BSP_SCHEDULE_DELAY="100",
    )

    service.client.get(NOBODY)
    arrived = sink.wait_for(lambda: bool(sink.spans))
    service.stop()

    assert arrived
    assert sink.metrics == []


def test_without_an_endpoint_ids_are_made_logged_and_returned(serve):
    service = serve()

    first = service.client.get(NOBODY).json()
    second = service.client.get(NOBODY, headers=FROM_CALLER).json()

    assert int(first["trace_id"], 16) != 0
    assert second["trace_id"] == TRACE
    lines = service.logged("Request answered")
    assert [line["trace_id"] for line in lines] == [first["trace_id"], TRACE]
    assert all(int(line["span_id"], 16) != 0 for line in lines)
    assert len({line["span_id"] for line in lines}) == 2


def test_without_an_endpoint_no_sdk_is_loaded():
    code = (
        "import sys; from app import create_app; from config import AppConfig; "
        "create_app(AppConfig(redis_url='')).test_client().get('/users/me'); "
        "print([name for name in sys.modules if name.startswith('opentelemetry.exporter') "
        "or name.startswith('opentelemetry.sdk') or name == 'grpc'])"
    )

    result = run(sys.executable, "-c", code)

    assert result.stdout == "[]\n"


def test_grpc_is_loaded_by_those_who_choose_it_alone(sink):
    code = (
        "import sys; from app import create_app; from config import AppConfig; "
        "create_app(AppConfig(redis_url='')); print('grpc' in sys.modules)"
    )

    result = run(sys.executable, "-c", code, variables=sink.variables)

    assert result.stdout == "False\n"


def test_workers_share_all_that_exporting_loads(sink):
    code = (
        "import importlib, sys; from app import create_app; from config import AppConfig; "
        "from observability import exporting_modules; "
        "[importlib.import_module(name) for name in exporting_modules()]; "
        "before = set(sys.modules); create_app(AppConfig(redis_url='')); "
        "tops = {name.partition('.')[0] for name in set(sys.modules) - before}; "
        "print(sorted(tops & {'google', 'opentelemetry', 'requests', 'urllib3'}))"
    )

    result = run(sys.executable, "-c", code, variables=sink.variables)

    assert result.stdout == "[]\n"


def test_a_worker_that_is_replaced_goes_on_tracing(serve, sink):
    service = serve(**sink.variables)
    service.client.get(NOBODY)
    assert sink.wait_for(lambda: len(instances(sink.spans)) == 1)

    service.process.send_signal(signal.SIGHUP)

    def is_replaced():
        try:
            service.client.get(NOBODY)
        except httpx2.TransportError:
            return False  # the old worker closed the connection that was kept
        return len(instances(sink.spans)) == 2

    eventually(is_replaced)
