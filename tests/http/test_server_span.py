"""The span of a request is the one that OpenTelemetry's instrumentation for Flask makes.

Both run on the same requests. What ours says otherwise, and why, is written in `expected`.
"""

from __future__ import annotations

import re

import pytest
from flask import Response
from opentelemetry import trace
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

import app as application
from app import create_app
from chassis.errors import Unavailable
from chassis.http import request_tracing
from config import AppConfig
from observability import Telemetry
from tests.conftest import API_KEY, Client
from tests.support import spans as support
from tests.support.factories import ADA

SERVICE = {"X-API-Key": API_KEY}
NOBODY = "/users/018f0000-0000-7000-8000-000000000000"
TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
W3C = {"traceparent": f"00-{TRACE}-{CALLER}-01"}
CREDENTIALS = ("X-API-Key", "Authorization", "Proxy-Authorization", "Cookie")
CAPTURE = "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER"

REQUESTS = {
    "read": {"path": NOBODY, "headers": SERVICE},
    "refused body": {"path": "/users", "method": "POST", "json": {"email": "no address"}},
    "list": {"path": "/users?limit=3&after=&limit=4", "headers": SERVICE},
    "head": {"path": NOBODY, "method": "HEAD", "headers": SERVICE},
    "options": {"path": "/users", "method": "OPTIONS"},
    "a path of text": {"path": "/docs/ada@example.com"},
    "no route": {"path": "/nope/ada@example.com?email=ada@example.com&ada@example.com=1"},
    "no such method": {"path": "/users", "method": "PUT"},
    "unknown method": {"path": "/users", "method": "BREW"},
    "method in small letters": {"path": "/users", "method": "get"},
    "method without a route": {"path": "/users", "method": "TRACE"},
    "bug": {"path": "/broken"},
    "outage": {"path": "/away"},
    "stream": {"path": "/stream"},
    "caller": {"path": NOBODY, "headers": W3C},
    "proxy": {
        "path": NOBODY,
        "headers": {
            "X-Forwarded-For": "203.0.113.9",
            "X-Forwarded-Proto": "https",
            "X-Forwarded-Prefix": "/api",
        },
    },
    "browser": {"path": NOBODY, "headers": {"User-Agent": "Mozilla/5.0 (X11)"}},
    "robot": {"path": NOBODY, "headers": {"User-Agent": "Googlebot/2.1 (+http://a.example)"}},
    "robot with an address": {"path": NOBODY, "headers": {"User-Agent": "bingbot a@b.example"}},
    "monitor": {"path": NOBODY, "headers": {"User-Agent": "AlwaysOn"}},
    "port of the client": {"path": NOBODY, "environ_overrides": {"REMOTE_PORT": "50123"}},
    "name of the client": {"path": NOBODY, "environ_overrides": {"REMOTE_HOST": "pc.example"}},
    "no client": {"path": NOBODY, "environ_overrides": {"REMOTE_ADDR": ""}},
    "HTTP/1.0": {"path": NOBODY, "environ_overrides": {"SERVER_PROTOCOL": "HTTP/1.0"}},
    "IPv6": {"path": NOBODY, "base_url": "http://[::1]:8080"},
    "TLS": {"path": NOBODY, "base_url": "https://api.example.com"},
    "own port": {"path": NOBODY, "base_url": "http://api.example.com:8443"},
}


class Side:
    """An application, and the spans that its requests leave."""

    def __init__(self, app):
        self.app = app
        self.client = app.test_client()
        self.exporter = InMemorySpanExporter()
        self.provider = support.provider(self.exporter)
        app.add_url_rule("/broken", "broken", _break)
        app.add_url_rule("/away", "away", _be_away)
        app.add_url_rule("/stream", "stream", lambda: Response(iter(["a", "b"])))

    def span_of(self, **request):
        self.exporter.clear()
        self.client.open(**request)
        [span] = [
            each
            for each in self.exporter.get_finished_spans()
            if each.kind is SpanKind.SERVER or each.parent is None
        ]
        return span


def _break():
    raise LookupError(f"{ADA['email']} is missing")


def _be_away():
    raise Unavailable("The printer is away")


@pytest.fixture
def make_side(config, services, monkeypatch):
    """Call that makes an application without the layer that traces, as the reference needs it."""
    layers = application.layers

    def make():
        def untraced(*arguments):
            return {name: each for name, each in layers(*arguments).items() if name != "trace"}

        monkeypatch.setattr(application, "layers", untraced)
        app = create_app(config, services, Telemetry(config))
        app.test_client_class = Client
        return Side(app)

    return make


@pytest.fixture
def config(sqlite_url):
    """One proxy is trusted; which database it is makes no difference here."""
    return AppConfig(
        database_url=sqlite_url,
        redis_url="",
        api_key=API_KEY,
        rate_limit_enabled=False,
        trusted_proxy_hops=1,
    )


@pytest.fixture
def reference(make_side):
    """The application as the instrumentation that others use traces it."""
    side = make_side()
    FlaskInstrumentor().instrument_app(
        side.app,
        tracer_provider=side.provider,
        meter_provider=NoOpMeterProvider(),
        enable_commenter=False,
        excluded_urls="",
    )
    return side


@pytest.fixture
def make_ours(make_side):
    """Call that makes the application as it traces itself."""

    def make():
        side = make_side()
        layer = request_tracing.layer(side.app, provider=side.provider)
        side.app.wsgi_app = layer
        return side

    return make


@pytest.fixture
def ours(make_ours):
    return make_ours()


def expected(span):
    """Return name and attributes that ours has where the reference has these."""
    attributes = dict(span.attributes)
    name = span.name
    if "http.route" not in attributes:  # callers make up paths, so there is no end of names
        method = attributes["http.request.method"]
        name = "HTTP" if method == "_OTHER" else method
    if not re.fullmatch(r"GET /(broken|away|stream)|\w+ /users(/<uuid:user_id>)?", name):
        attributes["url.path"] = ""  # likewise; what we gave out, ids, may show
    if "url.query" in attributes:
        names = {each.partition("=")[0] for each in attributes["url.query"].split("&")}
        shown = sorted(each for each in names if "@" not in each)
        attributes["url.query"] = "&".join(f"{each}=REDACTED" for each in shown)
    if "@" in attributes.get("user_agent.original", ""):
        attributes["user_agent.original"] = "REDACTED"
    # The conventions: the host without its port, and the port that the client asked for.
    host, _, port = attributes["server.address"].rpartition(":")
    if port.isdecimal():
        attributes |= {"server.address": host.strip("[]"), "server.port": int(port)}
    else:
        attributes["server.port"] = 443 if attributes["url.scheme"] == "https" else 80
    if any(event.name == "exception" for event in span.events):
        # The conventions: the exception's type rather than the status.
        attributes["error.type"] = "LookupError"
        attributes |= {"error.message": "LookupError", "function.result": "error"}
    return name, attributes


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=list(REQUESTS))
def test_a_span_is_what_the_instrumentation_would_have_made(ours, reference, request_):
    made, known = ours.span_of(**request_), reference.span_of(**request_)

    assert (made.name, dict(made.attributes)) == expected(known)
    assert made.kind is known.kind is SpanKind.SERVER
    assert made.status.status_code == known.status.status_code
    assert made.parent == known.parent
    assert made.context.trace_flags == known.context.trace_flags
    assert made.instrumentation_scope.schema_url == known.instrumentation_scope.schema_url
    assert [each.name for each in made.events] == [each.name for each in known.events]


def test_the_span_of_a_registration_is_the_same(ours, reference):
    request = {"path": "/users", "method": "POST"}

    made = ours.span_of(**request, json=ADA)
    known = reference.span_of(**request, json=ADA | {"email": "grace@example.com"})

    assert made.attributes["http.response.status_code"] == 201
    assert (made.name, dict(made.attributes)) == expected(known)


def test_headers_that_the_operator_names_are_on_the_span(monkeypatch, make_ours, reference):
    monkeypatch.setenv(f"{CAPTURE}_REQUEST", "Accept.*,X-API-Key")
    monkeypatch.setenv(f"{CAPTURE}_RESPONSE", "content-type")
    monkeypatch.setenv("OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SANITIZE_FIELDS", ".*key.*")
    request = {"path": NOBODY, "headers": SERVICE | {"Accept": "text/html"}}

    made, known = make_ours().span_of(**request), reference.span_of(**request)

    assert made.attributes["http.request.header.accept"] == ("text/html",)
    assert made.attributes["http.request.header.x_api_key"] == ("[REDACTED]",)
    assert made.attributes["http.response.header.content_type"] == ("application/problem+json",)
    assert dict(made.attributes) == expected(known)[1]


def test_credentials_are_on_no_span_whatever_the_operator_names(monkeypatch, make_ours):
    monkeypatch.setenv(f"{CAPTURE}_REQUEST", ".*")
    monkeypatch.setenv(f"{CAPTURE}_RESPONSE", ".*")
    given = dict.fromkeys(CREDENTIALS, "s3cret")

    span = make_ours().span_of(path=NOBODY, headers=given | {"Accept": "text/html"})

    assert span.attributes["http.request.header.accept"] == ("text/html",)
    assert span.attributes["http.request.header.x_api_key"] == ("[REDACTED]",)
    assert "s3cret" not in span.to_json()


@pytest.mark.parametrize(
    ("scheme", "host", "address", "port"),
    [
        ("http", "127.0.0.1:25034", "127.0.0.1", 25034),
        ("http", "api.example.com", "api.example.com", 80),
        ("https", "api.example.com", "api.example.com", 443),
        ("https", "api.example.com:", "api.example.com", 443),
        ("http", "[2001:db8::1]:81", "2001:db8::1", 81),
        ("http", "[2001:db8::1]", "2001:db8::1", 80),
        ("http", "ada@example.com:99", None, 8080),
        ("http", "a:123456", None, 8080),
        ("http", "", None, 8080),
    ],
)
def test_the_server_is_named_as_the_client_knows_it(ours, scheme, host, address, port):
    around = {"HTTP_HOST": host, "SERVER_PORT": "8080", "wsgi.url_scheme": scheme}

    attributes = ours.span_of(path=NOBODY, environ_overrides=around).attributes

    assert attributes.get("server.address") == address
    assert attributes["server.port"] == port


def test_a_bug_is_recorded_once_and_in_our_words(ours):
    span = ours.span_of(path="/broken")

    [event] = span.events
    assert event.attributes["exception.type"] == "LookupError"
    assert event.attributes["exception.message"] == "LookupError"
    assert "_break" in event.attributes["exception.stacktrace"]
    assert ADA["email"] not in span.to_json()
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "LookupError")


def test_an_exception_that_nobody_answers_ends_the_span_and_is_on_it(ours):
    ours.app.config["PROPAGATE_EXCEPTIONS"] = True

    with pytest.raises(LookupError):
        ours.client.get("/broken")

    [span] = ours.exporter.get_finished_spans()
    assert span.attributes["http.request.method"] == "GET"
    assert len(span.events) == 1
    assert not trace.get_current_span().get_span_context().is_valid


def test_a_query_that_is_no_text_fails_nothing(ours):
    around = {"QUERY_STRING": "\xff=1&%ff=2&b"}

    span = ours.span_of(path=NOBODY, environ_overrides=around)

    assert span.attributes["http.response.status_code"] == 401
    assert span.attributes["url.query"] == "b=REDACTED&\N{REPLACEMENT CHARACTER}=REDACTED"


def test_the_span_of_a_stream_ends_with_it(ours):
    answer = ours.client.get("/stream", buffered=False)

    assert ours.exporter.get_finished_spans() == ()
    answer.get_data()
    answer.close()
    assert len(ours.exporter.get_finished_spans()) == 1
