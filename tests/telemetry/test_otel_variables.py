"""Each OTEL_* variable with right, odd and wrong values."""

from __future__ import annotations

import json

import pytest

from chassis.telemetry.otel_variables import settle
from tests.support import processes

OTLP = "OTEL_EXPORTER_OTLP_"
GRPC = {f"{OTLP}PROTOCOL": "grpc"}
HTTP_ENDPOINT = "http://127.0.0.1:4318"
MILLISECONDS = ("OTEL_BSP_SCHEDULE_DELAY", "OTEL_METRIC_EXPORT_INTERVAL")
COUNTS = ("OTEL_BSP_MAX_QUEUE_SIZE", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE")
LIMITS = (
    "OTEL_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT",
    "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT",
    "OTEL_SPAN_EVENT_COUNT_LIMIT",
    "OTEL_SPAN_LINK_COUNT_LIMIT",
    "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT",
)
EXPLICIT = "explicit_bucket_histogram"
OF_SIGNALS = ("", "TRACES_", "METRICS_")
NO_NUMBERS = ("x", "-1", "1.5", "1e3", "٣", "unlimited", "99999999999999999999", "\udcff")

# (variable, given, what the libraries are given)
ACCEPTED = [
    *((name, "100", "100") for name in (*MILLISECONDS, *LIMITS)),
    *((name, " 7 ", "7") for name in (*MILLISECONDS, *LIMITS)),
    *((name, "0", "0") for name in LIMITS),
    ("OTEL_BSP_MAX_QUEUE_SIZE", "4096", "4096"),
    ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "64", "64"),
    ("OTEL_PROPAGATORS", "none", "none"),
    ("OTEL_PROPAGATORS", "None", "none"),
    ("OTEL_PROPAGATORS", "tracecontext, baggage ,", "tracecontext,baggage"),
    ("OTEL_PROPAGATORS", "b3,b3,B3Multi", "b3,b3multi"),
    ("OTEL_TRACES_EXPORTER", "otlp", "otlp"),
    ("OTEL_TRACES_EXPORTER", "none", "none"),
    ("OTEL_METRICS_EXPORTER", "otlp,prometheus", "otlp,prometheus"),
    ("OTEL_TRACES_SAMPLER", "Always_On", "always_on"),
    ("OTEL_SDK_DISABLED", " TRUE ", "true"),
    ("OTEL_SDK_DISABLED", "false", "false"),
    ("OTEL_SERVICE_NAME", "ü b", "ü b"),
    ("OTEL_RESOURCE_ATTRIBUTES", "a=b,k==v,e=,p=%zz,u=%C3%BC", "a=b,k==v,e=,p=%zz,u=%C3%BC"),
    ("OTEL_EXPERIMENTAL_RESOURCE_DETECTORS", "process,os", "process,os"),
    (f"{OTLP}METRICS_TEMPORALITY_PREFERENCE", "Delta", "delta"),
    (f"{OTLP}METRICS_TEMPORALITY_PREFERENCE", "LOWMEMORY", "lowmemory"),
    (f"{OTLP}METRICS_DEFAULT_HISTOGRAM_AGGREGATION", EXPLICIT, EXPLICIT),
    (f"{OTLP}ENDPOINT", "https://collector:4318/base", "https://collector:4318/base"),
    (
        f"{OTLP}TRACES_ENDPOINT",
        "http://[::1]:4318/v1/traces?a=b",
        "http://[::1]:4318/v1/traces?a=b",
    ),
    *((f"{OTLP}{each}PROTOCOL", "http/protobuf", "http/protobuf") for each in OF_SIGNALS),
    *((f"{OTLP}{each}PROTOCOL", "GRPC", "grpc") for each in OF_SIGNALS),
    *((f"{OTLP}{each}COMPRESSION", "GZIP", "gzip") for each in OF_SIGNALS),
    *((f"{OTLP}{each}TIMEOUT", "2.5", "2.5") for each in OF_SIGNALS),
    *((f"{OTLP}{each}INSECURE", "True", "true") for each in OF_SIGNALS),
    *((f"{OTLP}{each}CERTIFICATE", __file__, __file__) for each in OF_SIGNALS),
    *((f"{OTLP}{each}HEADERS", "a=b%20c,d=e f", "a=b%20c,d=e f") for each in OF_SIGNALS),
    ("OTEL_LOGS_EXPORTER", "none", None),
    ("OTEL_METRICS_EXEMPLAR_FILTER", "always_off", None),
]
# (variable, given, what is left of it)
REFUSED = [
    *((name, value, None) for name in (*MILLISECONDS, *COUNTS) for value in ("0", *NO_NUMBERS)),
    *((name, value, None) for name in LIMITS for value in NO_NUMBERS),
    ("OTEL_PROPAGATORS", "xray", None),
    ("OTEL_PROPAGATORS", "jaeger,ottrace", None),
    ("OTEL_PROPAGATORS", "tracecontext,xray", "tracecontext"),
    ("OTEL_PROPAGATORS", "tracecontext,none", "tracecontext"),
    ("OTEL_TRACES_EXPORTER", "console", None),
    ("OTEL_TRACES_EXPORTER", "otlp,console", "otlp"),
    ("OTEL_METRICS_EXPORTER", "console", None),
    ("OTEL_TRACES_SAMPLER", "jaeger_remote", None),
    ("OTEL_SDK_DISABLED", "yes", None),
    ("OTEL_SERVICE_NAME", "\udcff", None),
    ("OTEL_RESOURCE_ATTRIBUTES", "bad,=x,a=b", "a=b"),
    ("OTEL_RESOURCE_ATTRIBUTES", "bad", None),
    ("OTEL_RESOURCE_ATTRIBUTES", "a=\udcff", None),
    ("OTEL_EXPERIMENTAL_RESOURCE_DETECTORS", "aws", None),
    (f"{OTLP}METRICS_TEMPORALITY_PREFERENCE", "sometimes", None),
    (f"{OTLP}METRICS_DEFAULT_HISTOGRAM_AGGREGATION", "base2_exponential_bucket_histogram", None),
    *((f"{OTLP}{each}PROTOCOL", "http/json", None) for each in OF_SIGNALS),
    *((f"{OTLP}{each}PROTOCOL", "bogus", None) for each in OF_SIGNALS),
    *((f"{OTLP}{each}COMPRESSION", "zstd", None) for each in OF_SIGNALS),
    *(
        (f"{OTLP}{each}TIMEOUT", value, None)
        for each in OF_SIGNALS
        for value in ("0", "-1", "nan", "inf", "10s", "10000")
    ),
    *((f"{OTLP}{each}INSECURE", "1", None) for each in OF_SIGNALS),
    *((f"{OTLP}{each}CERTIFICATE", "/no/such", None) for each in OF_SIGNALS),
    *((f"{OTLP}{each}CLIENT_KEY", "/", None) for each in OF_SIGNALS),
    *((f"{OTLP}{each}HEADERS", "a=b%0Ac: d,e=f", "e=f") for each in OF_SIGNALS),
    *((f"{OTLP}{each}HEADERS", "nonsense", None) for each in OF_SIGNALS),
    *((f"{OTLP}{each}HEADERS", "a=%C3%BC", None) for each in OF_SIGNALS),
    *(
        (f"{OTLP}{each}ENDPOINT", value, None)
        for each in OF_SIGNALS
        for value in (
            "collector:4318",
            "not a url",
            "http://",
            "ftp://collector",
            "http://c:99999",
            "http://c:x",
            "http://[::1",
        )
    ),
    (f"{OTLP}ENDPOINT", "http://collector:4318/?key=1", None),
    ("OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST", "[,accept", "accept"),
    ("OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_RESPONSE", "(", None),
    ("OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SANITIZE_FIELDS", "*", None),
]
WITHOUT_EFFECT = {
    "OTEL_LOGS_EXPORTER": "otlp",
    "OTEL_BLRP_SCHEDULE_DELAY": "x",
    "OTEL_BLRP_MAX_QUEUE_SIZE": "10",
    "OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT": "10",
    f"{OTLP}LOGS_ENDPOINT": "http://127.0.0.1:1",
    f"{OTLP}LOGS_HEADERS": "api-key=hidden-8213",
    "OTEL_BSP_EXPORT_TIMEOUT": "1000",
    "OTEL_METRIC_EXPORT_TIMEOUT": "1000",
    "OTEL_METRICS_EXEMPLAR_FILTER": "always_on",
    "OTEL_LOG_LEVEL": "debug",
    "OTEL_CONFIG_FILE": "/etc/otel.yaml",
    "OTEL_EXPORTER_ZIPKIN_ENDPOINT": "http://zipkin:9411",
    "OTEL_EXPORTER_JAEGER_AGENT_HOST": "jaeger",
    "OTEL_EXPORTER_PROMETHEUS_PORT": "9464",
    "OTEL_TRACES_SAMPLER_ARG": "0.5",
    "OTEL_PYTHON_CONTEXT": "bogus",
    "OTEL_PYTHON_TRACER_PROVIDER": "bogus",
    "OTEL_PYTHON_ID_GENERATOR": "xray",
    "OTEL_PYTHON_EXPORTER_OTLP_HTTP_CREDENTIAL_PROVIDER": "bogus",
    "OTEL_PYTHON_EXPORTER_OTLP_GRPC_CREDENTIAL_PROVIDER": "bogus",
    "OTEL_PYTHON_EXPORTER_OTLP_GRPC_RETRYABLE_ERROR_CODES": "BOGUS",
    "OTEL_PYTHON_FLASK_EXCLUDED_URLS": "health",
}


def settled(variable, value, **others):
    variables = {variable: value, **others}
    complaints = settle(variables)
    return variables.get(variable), [each.variable for each in complaints]


@pytest.mark.parametrize(("variable", "given", "left"), ACCEPTED)
def test_a_right_or_odd_value_is_understood(variable, given, left):
    assert settled(variable, given) == (left, [])


@pytest.mark.parametrize(("variable", "given", "left"), REFUSED)
def test_of_a_wrong_value_only_the_right_part_is_left_and_the_variable_is_named(
    variable, given, left
):
    value, named = settled(variable, given)

    assert named == [variable]
    # Batches have a default of ours, since a small queue would refuse that of the library.
    assert value == left or (left is None and variable.endswith("BATCH_SIZE") and value == "512")


@pytest.mark.parametrize("variable", sorted({each[0] for each in (*ACCEPTED, *REFUSED)}))
def test_an_empty_value_counts_as_not_set(variable):
    assert settled(variable, "  ") == (None, [])


@pytest.mark.parametrize(("variable", "value"), WITHOUT_EFFECT.items())
def test_a_variable_without_effect_is_named_and_kept_from_the_libraries(variable, value):
    assert settled(variable, value) == (None, [variable])


@pytest.mark.parametrize(
    ("value", "left", "named"),
    [
        ("0.25", "0.25", False),
        ("1", "1", False),
        ("10", None, True),
        ("x", None, True),
        ("nan", None, True),
    ],
)
@pytest.mark.parametrize("sampler", ["traceidratio", "parentbased_traceidratio"])
def test_a_ratio_is_from_0_to_1(sampler, value, left, named):
    name = "OTEL_TRACES_SAMPLER_ARG"

    assert settled(name, value, OTEL_TRACES_SAMPLER=sampler) == (left, [name] if named else [])


@pytest.mark.parametrize(
    ("queue", "batch", "used", "named"),
    [
        ("256", "", "256", False),
        ("1", "", "1", False),
        ("4096", "", None, False),
        ("", "4096", "512", True),
        ("100", "200", "100", True),
        ("x", "4096", "512", True),
    ],
)
def test_a_batch_fits_into_the_queue(queue, batch, used, named):
    name = "OTEL_BSP_MAX_EXPORT_BATCH_SIZE"

    value, complaints = settled(name, batch, OTEL_BSP_MAX_QUEUE_SIZE=queue)

    assert value == used
    assert (name in complaints) is named


@pytest.mark.parametrize("value", ["collector:4317", "http://c:4317", "unix:///a", "dns:///c:1"])
def test_grpc_needs_no_scheme(value):
    assert settled(f"{OTLP}ENDPOINT", value, **GRPC) == (value, [])


@pytest.mark.parametrize("value", ["not a url", "http://c:x", "ftp://c:1", "http://"])
def test_grpc_needs_something_that_it_can_call(value):
    assert settled(f"{OTLP}ENDPOINT", value, **GRPC) == (None, [f"{OTLP}ENDPOINT"])


def test_grpc_packs_with_gzip_or_not_at_all():
    variable = f"{OTLP}TRACES_COMPRESSION"

    assert settled(variable, "deflate", **GRPC) == (None, [variable])
    assert settled(variable, "none", **GRPC) == ("none", [])


@pytest.mark.parametrize(
    ("variable", "stopped"),
    [
        (f"{OTLP}CERTIFICATE", {"OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER"}),
        (f"{OTLP}METRICS_CLIENT_KEY", {"OTEL_METRICS_EXPORTER"}),
    ],
)
def test_without_a_certificate_that_is_asked_for_nothing_leaves(variable, stopped):
    variables = {variable: "/no/such", f"{OTLP}ENDPOINT": HTTP_ENDPOINT}

    settle(variables)

    assert {name for name, value in variables.items() if value == "none"} == stopped


def test_a_service_with_all_values_wrong_serves_exports_and_names_each_once(serve, collector):
    wrong = {variable: value for variable, value, _ in REFUSED if "\udcff" not in value}
    wrong = {name: value for name, value in wrong.items() if "ENDPOINT" not in name}
    wrong = {name: value for name, value in wrong.items() if not name.endswith("_CERTIFICATE")}
    wrong = {name: value for name, value in wrong.items() if not name.endswith("_CLIENT_KEY")}
    # With right ones of these, both arrive soon, while the service runs; its end has a deadline.
    wrong = {name: value for name, value in wrong.items() if name not in collector.variables}

    service = serve(**(collector.variables | wrong | WITHOUT_EFFECT))
    answer = service.client.post("/users", json={"email": "a@example.com", "name": "A"})
    arrived = collector.wait_for(lambda: bool(collector.named("POST /users") and collector.metrics))
    service.stop()

    assert answer.status_code == 201
    assert arrived
    complaints = [line["message"].partition(" ")[0] for line in complaints_of(service.lines)]
    assert sorted(complaints) == sorted(wrong | WITHOUT_EFFECT)
    assert "hidden-8213" not in service.output
    assert "Traceback" not in service.output
    assert service.errors == ""


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
@pytest.mark.parametrize(
    ("variable", "value"),
    [
        (f"{OTLP}ENDPOINT", "collector"),
        (f"{OTLP}ENDPOINT", "not a url"),
        (f"{OTLP}CERTIFICATE", "/no/such"),
        (f"{OTLP}COMPRESSION", "none"),
    ],
)
def test_no_place_to_export_to_harms_no_request(serve, protocol, variable, value):
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", variable: value}

    service = serve(OTEL_EXPORTER_OTLP_PROTOCOL=protocol, **variables)
    answer = service.client.post("/users", json={"email": "a@example.com", "name": "A"})
    service.stop()

    assert answer.status_code == 201
    assert service.process.returncode == 0
    assert service.errors == ""


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OTEL_PROPAGATORS", "xray"),
        ("OTEL_PROPAGATORS", "none"),
        ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "x"),
        ("OTEL_PYTHON_CONTEXT", "bogus"),
        ("OTEL_PYTHON_TRACER_PROVIDER", "bogus"),
    ],
)
def test_a_command_does_its_work_whatever_the_value(tmp_path, variable, value):
    variables = {variable: value, "DATABASE_URL": f"sqlite:///{tmp_path}/a.db", "REDIS_URL": ""}

    result = processes.run(*processes.ADMIN, "migrate", variables=variables)

    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr
    lines = complaints_of(map(json.loads, result.stderr.splitlines()))
    assert [line["message"].partition(" ")[0] for line in lines] == (
        [] if value == "none" else [variable]
    )


def complaints_of(lines):
    return [line for line in lines if line["logger"] == "chassis.telemetry.otel_variables"]
