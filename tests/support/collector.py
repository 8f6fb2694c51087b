"""A collector that keeps what it is sent: OTLP over gRPC and over HTTP, in several moods."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2_grpc
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from tests.support.ports import HOST, free_port
from tests.support.waiting import DEADLINE_SECONDS

PROTOCOLS = ("http/protobuf", "grpc")
# For a test of something that is the same before any exporter gets it.
ONE_PROTOCOL = PROTOCOLS[:1]
SLOW_SECONDS = 1.0


@dataclass(frozen=True)
class Span:
    """A span as it arrived; ids are hexadecimal, a root has an empty parent."""

    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_id: str
    attributes: dict[str, Any]
    events: list[tuple[str, dict[str, Any]]]
    status: int
    message: str
    resource: dict[str, Any]
    scope: str


@dataclass(frozen=True)
class Metric:
    """A metric of one export, and who sent it."""

    resource: dict[str, Any]
    data: Any

    @property
    def points(self) -> list[Any]:
        """The data points, whatever the metric's kind."""
        kind = self.data.WhichOneof("data")
        return list(getattr(self.data, kind).data_points)


@dataclass
class Collector:
    """The requests that arrived, and the address; `mode` may be changed while it runs.

    Modes: "ok"; "hang" takes requests and never answers; "slow" answers after a second;
    "error" answers 503, or UNAVAILABLE. Over HTTP alone: "busy" answers 503 and asks for a minute
    of peace, "moved" redirects, "drip" sends a head without an end, a byte at a time, and "flood"
    a body without an end.
    """

    endpoint: str
    protocol: str
    mode: str = "ok"
    spans: list[Span] = field(default_factory=list)
    metrics: list[Metric] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    requests: int = 0
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _closed: threading.Event = field(default_factory=threading.Event)

    @property
    def variables(self) -> dict[str, str]:
        """The environment that sends a process's telemetry here, soon."""
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.endpoint,
            "OTEL_EXPORTER_OTLP_PROTOCOL": self.protocol,
            "OTEL_BSP_SCHEDULE_DELAY": "100",
            "OTEL_METRIC_EXPORT_INTERVAL": "200",
        }

    def wait_for(self, condition: Callable[[], bool], seconds: float = DEADLINE_SECONDS) -> bool:
        """Wait until a condition on what arrived holds; tell whether it came to that."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while not condition():
                if not self._changed.wait(deadline - time.monotonic()):
                    return condition()
        return True

    def named(self, name: str) -> list[Span]:
        """Return the spans of a name."""
        return [each for each in self.spans if each.name == name]

    def tree(self, parent_id: str) -> dict[str, Any]:
        """Return the names of the spans below one as nested dictionaries."""
        below = [each for each in self.spans if each.parent_id == parent_id]
        return {each.name: self.tree(each.span_id) for each in below}

    def latest(self, name: str) -> dict[str, Metric]:
        """Return the last state of a metric that each process sent, by its instance id."""
        sent = [each for each in self.metrics if each.data.name == name]
        return {each.resource["service.instance.id"]: each for each in sent}

    def is_refusing(self) -> bool:
        """Take note of a request, be as slow as the mode says, and tell whether to refuse."""
        with self._changed:
            self.requests += 1
            self._changed.notify_all()
        if self.mode == "hang":
            self._closed.wait()
        if self.mode == "slow":
            self._closed.wait(SLOW_SECONDS)
        return self.mode in {"error", "busy"}

    def wait_briefly(self, size: int) -> bool:
        """Pause between two pieces, small ones for longer; tell whether all is over."""
        return self._closed.wait(0.02 if size == 1 else 0)

    def take(self, message: Any, headers: dict[str, str]) -> None:
        """Keep what a request brought."""
        with self._changed:
            self.headers.append(headers)
            if isinstance(message, ExportTraceServiceRequest):
                self.spans.extend(_spans(message))
            else:
                self.metrics.extend(_metrics(message))
            self._changed.notify_all()

    def release(self) -> None:
        """Let hanging requests go."""
        self._closed.set()


@contextmanager
def collector(protocol: str = "http/protobuf", mode: str = "ok") -> Iterator[Collector]:
    """Run a collector; in mode "refuse" there is none, only an address."""
    if mode == "refuse":
        yield Collector(f"http://{HOST}:{free_port()}", protocol, mode)
        return
    serve = _serve_grpc if protocol == "grpc" else _serve_http
    with serve(mode) as running:
        yield running


@contextmanager
def _serve_http(mode: str) -> Iterator[Collector]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers["Content-Encoding"] == "gzip":
                body = gzip.decompress(body)
            answer = _MESSAGES[self.path][1]()
            if running.is_refusing():
                self.send_response(503)
                if running.mode == "busy":
                    self.send_header("Retry-After", "60")
            elif running.mode in {"drip", "flood"}:
                _pour(self.wfile, running)
                return
            elif running.mode == "moved":
                self.send_response(307)
                self.send_header("Location", "/elsewhere")
            else:
                headers = {name.lower(): value for name, value in self.headers.items()}
                running.take(_MESSAGES[self.path][0].FromString(body), headers)
                self.send_response(200)
            payload = answer.SerializeToString()
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: Any) -> None:
            pass  # a client that no longer waits

    server = Server((HOST, 0), Handler)
    running = Collector(f"http://{HOST}:{server.server_port}", "http/protobuf", mode)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield running
    finally:
        running.release()
        server.shutdown()
        server.server_close()
        thread.join()


def _pour(stream: Any, running: Collector) -> None:
    """Send an answer without an end."""
    piece = b"x"
    stream.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
    if running.mode == "flood":
        stream.write(b"x\r\nContent-Length: 999999999999\r\n\r\n")
        piece = b"x" * 65_536
    while running.mode in {"drip", "flood"} and not running.wait_briefly(len(piece)):
        stream.write(piece)


_MESSAGES: dict[str, tuple[Any, Any]] = {
    "/v1/traces": (ExportTraceServiceRequest, ExportTraceServiceResponse),
    "/v1/metrics": (ExportMetricsServiceRequest, ExportMetricsServiceResponse),
}


@contextmanager
def _serve_grpc(mode: str) -> Iterator[Collector]:
    class Service(
        trace_service_pb2_grpc.TraceServiceServicer, metrics_service_pb2_grpc.MetricsServiceServicer
    ):
        def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's name
            if running.is_refusing():
                context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
            running.take(request, dict(context.invocation_metadata()))
            if isinstance(request, ExportTraceServiceRequest):
                return ExportTraceServiceResponse()
            return ExportMetricsServiceResponse()

    with ThreadPoolExecutor(16) as threads:
        server = grpc.server(threads)
        port = server.add_insecure_port(f"{HOST}:0")
        running = Collector(f"http://{HOST}:{port}", "grpc", mode)
        service = Service()
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(service, server)
        metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(service, server)
        server.start()
        try:
            yield running
        finally:
            running.release()
            server.stop(0).wait()


def _spans(message: Any) -> Iterator[Span]:
    for group in message.resource_spans:
        resource = _attributes(group.resource.attributes)
        for scope in group.scope_spans:
            for span in scope.spans:
                yield Span(
                    name=span.name,
                    kind=span.kind,
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_id=span.parent_span_id.hex(),
                    attributes=_attributes(span.attributes),
                    events=[(each.name, _attributes(each.attributes)) for each in span.events],
                    status=span.status.code,
                    message=span.status.message,
                    resource=resource,
                    scope=scope.scope.name,
                )


def _metrics(message: Any) -> Iterator[Metric]:
    for group in message.resource_metrics:
        resource = _attributes(group.resource.attributes)
        for scope in group.scope_metrics:
            for metric in scope.metrics:
                yield Metric(resource, metric)


def attributes_of(point: Any) -> dict[str, Any]:
    """Return a data point's attributes."""
    return _attributes(point.attributes)


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(each) for each in value.array_value.values]
    return getattr(value, kind)
