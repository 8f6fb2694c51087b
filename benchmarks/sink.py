"""Collectors of telemetry: one that reads and drops what it gets, and one that never answers."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar, Self
from urllib.parse import urlsplit

HOST = "127.0.0.1"
ROOT = Path(__file__).resolve().parent.parent
WATCHED = "/watched/"
STATEMENT_ATTRIBUTES = {"db.statement", "db.query.text", "db.query.summary", "db.operation.name"}


class Drop(BaseHTTPRequestHandler):
    """Takes everything, and counts the spans of watched traces; while none is, that costs nothing.

    PUT and DELETE of /watched/{trace id} begin and end the watch, GET returns the numbers.
    """

    protocol_version = "HTTP/1.1"
    watched: ClassVar[dict[str, Counter[str]]] = {}  # trace id -> kind of span -> number

    def handle(self) -> None:
        """Take requests until the client hangs up; one that was killed resets the connection."""
        with suppress(ConnectionResetError):
            super().handle()

    def do_POST(self) -> None:
        """Read an export and say that it arrived."""
        content = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        for trace_id in [*self.watched] if self.path.endswith("/v1/traces") else []:
            if bytes.fromhex(trace_id) in content:
                self.watched[trace_id].update(kinds(content, trace_id))
        self._answer(b"")

    def do_PUT(self) -> None:
        """Begin to watch a trace."""
        self.watched[self._trace_id()] = Counter()
        self._answer(b"")

    def do_GET(self) -> None:
        """Say how many spans of a trace have arrived."""
        self._answer(json.dumps(self.watched[self._trace_id()]).encode())

    def do_DELETE(self) -> None:
        """Watch a trace no longer."""
        self.watched.pop(self._trace_id(), None)
        self._answer(b"")

    def _trace_id(self) -> str:
        return self.path.removeprefix(WATCHED)

    def _answer(self, content: bytes) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


def kinds(export: bytes, trace_id: str) -> Iterator[str]:
    """Yield `server`, `statement` or `other` for each span of a trace in an export."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
    from opentelemetry.proto.trace.v1.trace_pb2 import Span

    for resource in ExportTraceServiceRequest.FromString(export).resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                if span.trace_id.hex() == trace_id:
                    names = {each.key for each in span.attributes}
                    is_statement = bool(names & STATEMENT_ATTRIBUTES)
                    is_server = span.kind == Span.SPAN_KIND_SERVER
                    yield "server" if is_server else "statement" if is_statement else "other"


class Watch:
    """A trace whose spans the collector counts until the end of the block."""

    def __init__(self, collector: str, trace_id: str) -> None:
        self._netloc = urlsplit(collector).netloc
        self._path = WATCHED + trace_id

    def __enter__(self) -> Self:
        self._ask("PUT")
        return self

    def __exit__(self, *_exception: object) -> None:
        self._ask("DELETE")

    def spans(self) -> dict[str, int]:
        """Return the number of spans that have arrived, by their kind."""
        spans: dict[str, int] = json.loads(self._ask("GET"))
        return spans

    def _ask(self, method: str) -> bytes:
        connection = HTTPConnection(self._netloc, timeout=10)
        try:
            connection.request(method, self._path)
            return connection.getresponse().read()
        finally:
            connection.close()


@contextmanager
def live_collector() -> Iterator[str]:
    """Yield the endpoint of a collector in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.sink"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://{HOST}:{int(process.stdout.readline())}"
        finally:
            process.terminate()


@contextmanager
def silent_collector() -> Iterator[str]:
    """Yield the endpoint of a collector that takes connections and never answers."""
    with socket.create_server((HOST, 0)) as listener:
        yield f"http://{HOST}:{listener.getsockname()[1]}"


@contextmanager
def absent_collector() -> Iterator[str]:
    """Yield an endpoint where nobody listens."""
    with socket.socket() as bound:  # keeps others from taking the port
        bound.bind((HOST, 0))
        yield f"http://{HOST}:{bound.getsockname()[1]}"


def main() -> None:
    """Serve until terminated; the first line of output is the port."""
    with ThreadingHTTPServer((HOST, 0), Drop) as server:
        print(server.server_port, flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
