"""The processes as an operator starts them, and what reaches them over a real connection."""

from __future__ import annotations

import json
import re
import signal
import socket
import sys
import time
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPResponse
from subprocess import Popen

import pytest

from chassis.http.web import MAX_BODY_BYTES
from tests.conftest import API_KEY
from tests.support.factories import ADA
from tests.support.ports import HOST, free_port, is_served_by
from tests.support.processes import APP, GUNICORN, finish, run, start
from tests.support.waiting import DEADLINE_SECONDS, POLL_SECONDS

# Longer than any test waits: a stop that does not end by itself is seen.
PATIENCE = "3600"
SECRET = "a secret of more than thirty-two bytes"
PRODUCTION = {
    "ENVIRONMENT": "production",
    "API_KEY": API_KEY,
    "JWT_SECRET": SECRET,
    "DATABASE_URL": "postgresql://app@127.0.0.1:1/app",
}


@dataclass(frozen=True)
class Server:
    """A web process that listens."""

    port: int
    process: Popen[str]

    def request(self, method, path, body=None, headers=None):
        """Make one call on a connection of its own; return response and body."""
        headers = {"X-API-Key": API_KEY} | (headers or {})
        if isinstance(body, dict):
            body, headers["Content-Type"] = json.dumps(body), "application/json"
        with closing(HTTPConnection(HOST, self.port, timeout=DEADLINE_SECONDS)) as connection:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return response, response.read()

    def send(self, raw):
        """Send bytes and nothing more; return response and body."""
        with socket.create_connection((HOST, self.port), timeout=DEADLINE_SECONDS) as connection:
            connection.sendall(raw)
            connection.shutdown(socket.SHUT_WR)
            response = HTTPResponse(connection)
            response.begin()
            return response, response.read()

    def stop(self, number=signal.SIGTERM):
        """Ask the process to end; return what it wrote, and its status."""
        self.process.send_signal(number)
        return finish(self.process)


@contextmanager
def serving(*command, **variables):
    """Start a web process, wait until it answers, and end it."""
    port = free_port()
    defaults = {
        "PORT": str(port),
        "REDIS_URL": "",
        "API_KEY": API_KEY,
        "WEB_CONCURRENCY": "1",
        "TERMINATION_GRACE_SECONDS": PATIENCE,
    }
    server = Server(port, start(*command, variables=defaults | variables))
    try:
        wait_for_answer(server)
        yield server
    finally:
        if server.process.returncode is None:
            server.stop()


def wait_for_answer(server):
    """Wait until the process answers; one that died or never does fails the test."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while server.process.poll() is None and time.monotonic() < deadline:
        if is_served_by(server.process.pid, server.port):
            with suppress(OSError):
                server.request("GET", "/health")
                return
        time.sleep(POLL_SECONDS)
    server.process.kill()
    result = finish(server.process)
    pytest.fail(f"{result.args} does not serve:\n{result.stdout}{result.stderr}")


@pytest.fixture
def empty_database(tmp_path):
    """URL of a database that does not exist yet."""
    return f"sqlite:///{tmp_path}/new.db"


def log_lines(result):
    """Return the log as objects; a line that is none fails the test."""
    return [json.loads(line) for line in result.stdout.splitlines()]


# Serving


@pytest.mark.parametrize("command", [APP, GUNICORN], ids=["python app.py", "gunicorn"])
def test_the_web_process_serves_a_whole_life_and_ends_well(command, empty_database):
    with serving(*command, DATABASE_URL=empty_database) as server:
        created, body = server.request("POST", "/users", ADA)
        address = created.headers["Location"]
        read, read_body = server.request("GET", address)
        changed, _ = server.request("PATCH", address, {"name": "Countess"}, {"If-Match": '"1"'})
        deleted, _ = server.request("DELETE", address)
        gone, _ = server.request("GET", address)
        ready, _ = server.request("GET", "/ready")
        result = server.stop()

    statuses = [each.status for each in (created, read, changed, deleted, gone, ready)]
    assert statuses == [201, 200, 200, 204, 404, 200]
    assert read_body == body
    assert result.returncode == 0
    assert result.stderr == ""
    lines = log_lines(result)
    assert any(each["message"] == "User created successfully" for each in lines)
    assert {each["service_name"] for each in lines} == {"cloudnative-user-api"}
    assert {each["level"] for each in lines} == {"INFO"}


def test_an_environment_that_is_no_development_is_never_migrated_by_serving(empty_database):
    with serving(*APP, DATABASE_URL=empty_database, ENVIRONMENT="staging") as server:
        ready, body = server.request("GET", "/ready")
        health, _ = server.request("GET", "/health")

    assert ready.status == 503
    assert json.loads(body)["status"] == "not_ready"
    assert json.loads(body)["reasons"] == ["schema"]
    assert health.status == 200


def test_several_processes_serve_one_new_database(empty_database):
    with serving(*APP, DATABASE_URL=empty_database, WEB_CONCURRENCY="2") as server:
        created, _ = server.request("POST", "/users", ADA)
        statuses = {server.request("GET", created.headers["Location"])[0].status for _ in range(8)}
        result = server.stop()

    assert statuses == {200}
    assert result.returncode == 0
    assert result.stderr == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_web_process_ends_quickly_on_a_signal(empty_database, number):
    with serving(*APP, DATABASE_URL=empty_database) as server:
        result = server.stop(number)

    assert result.returncode == 0
    assert log_lines(result)
    assert result.stderr == ""


def test_without_a_database_the_web_process_serves_all_that_needs_none():
    variables = {"DATABASE_URL": f"postgresql://app@{HOST}:{free_port()}/app"}
    with serving(*APP, **variables, ENVIRONMENT="staging") as server:
        health, _ = server.request("GET", "/health")
        refused, body = server.request("POST", "/users", ADA)

    assert health.status == 200
    assert refused.status == 503
    assert int(refused.headers["Retry-After"]) >= 1
    assert json.loads(body)["code"] == "unavailable"


def test_the_development_server_serves_with_readable_logs(empty_database):
    with serving(*APP, "--debug", DATABASE_URL=empty_database) as server:
        created, _ = server.request("POST", "/users", ADA)
        broken, body = server.request("POST", "/users", b"{")
        server.process.terminate()
        result = finish(server.process)

    assert created.status == 201
    assert broken.status == 415
    assert json.loads(body)["code"] == "unsupported_media_type"
    assert " - INFO - User created successfully" in result.stdout


def test_workers_collect_garbage_though_nobody_did_while_modules_were_loaded():
    code = (
        "import gc, runpy; from types import SimpleNamespace as Some; "
        "hooks = runpy.run_path('gunicorn.conf.py'); loading = gc.isenabled(); "
        "hooks['pre_fork'](Some(WORKERS={}, num_workers=1), Some(age=1)); "
        "hooks['on_exit'](None); print(loading, gc.isenabled())"
    )

    result = run(sys.executable, "-c", code)

    assert result.stdout == "False True\n"


def test_programs_collect_garbage_once_the_modules_are_loaded():
    code = (
        "import gc, runpy, sys; sys.argv[1:] = ['admin', '--help']; end = SystemExit\n"
        "try: runpy.run_path('app.py', run_name='__main__')\n"
        "except end: print(gc.isenabled(), file=sys.stderr)"
    )

    result = run(sys.executable, "-c", code)

    assert result.stderr == "True\n"


# Refusing to start


def test_the_development_server_is_refused_in_production():
    result = run(*APP, "--debug", variables=PRODUCTION)

    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("--debug is refused in production")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("arguments", [["serve"], ["--debug", "x"], ["--helps"], [""], ["--Debug"]])
def test_arguments_that_make_no_sense_get_the_usage(arguments):
    result = run(*APP, *arguments)

    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("usage: python app.py")


@pytest.mark.parametrize(
    "command", [APP, GUNICORN, (*APP, "--debug")], ids=["app.py", "gunicorn", "--debug"]
)
def test_a_configuration_that_cannot_be_used_is_refused_in_whole(command):
    variables = {"PORT": "http", "LOG_LEVEL": "loud", "ENVIRONMENT": "prod"}

    result = run(*command, variables=variables)

    assert result.returncode == 2
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    named = sorted(line.split()[0] for line in result.stderr.splitlines())
    assert named == ["ENVIRONMENT", "LOG_LEVEL", "PORT"]


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        (f"postgresql://app:secret@{HOST}:1/app", "Connection refused"),
        ("sqlite:////nonexistent/app.db", "unable to open database file"),
    ],
    ids=["away", "no folder"],
)
@pytest.mark.parametrize(
    "command", [APP, GUNICORN, (*APP, "--debug")], ids=["app.py", "gunicorn", "--debug"]
)
def test_a_development_database_that_cannot_be_used_is_named_in_one_line(command, url, reason):
    result = run(*command, variables={"DATABASE_URL": url, "PORT": str(free_port())})

    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("Cannot use the database of DATABASE_URL: ")
    assert reason in line
    assert "secret" not in line


@pytest.mark.parametrize(
    ("command", "setting"),
    [(APP, "PORT"), (APP, "MANAGEMENT_PORT"), ((*APP, "worker"), "WORKER_METRICS_PORT")],
    ids=["web", "management", "worker"],
)
def test_a_port_in_use_is_named_in_one_line(command, setting, empty_database, tmp_path):
    port = free_port()
    variables = {"PORT": str(free_port()), "DATABASE_URL": empty_database, "TMPDIR": str(tmp_path)}
    variables |= {setting: str(port)}

    with socket.create_server(("", port)):
        result = run(*command, variables=variables)

    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line == f"Cannot listen on port {port} ({setting}): Address already in use"
    assert list(tmp_path.iterdir()) == []  # no database


# Hostile connections


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A web process that all hostile requests of a test process share."""
    file = tmp_path_factory.mktemp("hostile") / "app.db"
    with serving(*APP, DATABASE_URL=f"sqlite:///{file}", WEB_THREADS="4") as running:
        yield running
        result = running.stop()
    levels = {each["level"] for each in log_lines(result)}
    assert levels <= {"INFO", "WARNING"}
    assert result.stderr == ""
    assert "Traceback" not in result.stdout


def chunked(body, *headers):
    """Make a registration with a chunked body."""
    head = [
        b"POST /users HTTP/1.1",
        b"Host: a",
        b"Content-Type: application/json",
        b"Transfer-Encoding: chunked",
        *headers,
    ]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def get(*headers, line=b"GET /health HTTP/1.1"):
    """Make a request with hostile headers."""
    return b"\r\n".join([line, b"Host: a", *headers]) + b"\r\n\r\n"


HOSTILE = {
    "garbage": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "words": b"hello\r\n\r\n",
    "no version": b"GET /health\r\n\r\n",
    "HTTP/0.9": b"GET /health HTTP/0.9\r\n\r\n",
    "HTTP/9.9": b"GET /health HTTP/9.9\r\n\r\n",
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "lower-case version": b"GET /health http/1.1\r\n\r\n",
    "two spaces": b"GET  /health HTTP/1.1\r\n\r\n",
    "lower-case method": get(line=b"get /health HTTP/1.1"),
    "method of symbols": get(line=b"G{T /health HTTP/1.1"),
    "NUL in the method": get(line=b"G\x00T /health HTTP/1.1"),
    "NUL in the path": get(line=b"GET /he\x00lth HTTP/1.1"),
    "long line": get(line=b"GET /" + b"a" * 20_000 + b" HTTP/1.1"),
    "long query": get(line=b"GET /users?email=" + b"a" * 20_000 + b" HTTP/1.1"),
    "long header": get(b"X: " + b"a" * 20_000),
    "many headers": get(*(b"X-%d: a" % number for number in range(300))),
    "space in a header name": get(b"X Y: a"),
    "space before the colon": get(b"X-Y : a"),
    "empty header name": get(b": a"),
    "no colon": get(b"nonsense"),
    "parenthesis in a header name": get(b"X(Y): a"),
    "bytes in a header name": get(b"X\xff: a"),
    "obsolete folding": get(b"X: a", b" b"),
    "NUL in a header": get(b"X: a\x00b"),
    "CR in a header": get(b"X: a\rb"),
    "two lengths": get(b"Content-Length: 1", b"Content-Length: 2"),
    "a length of words": get(b"Content-Length: many"),
    "a negative length": get(b"Content-Length: -1"),
    "a signed length": get(b"Content-Length: +1"),
    "length and chunks": chunked(b"0\r\n\r\n", b"Content-Length: 5"),
    "unknown coding": get(b"Transfer-Encoding: gzip"),
    "unknown coding before chunks": get(b"Transfer-Encoding: x, chunked"),
    "chunked twice": get(b"Transfer-Encoding: chunked, chunked"),
    "chunks in HTTP/1.0": get(b"Transfer-Encoding: chunked", line=b"POST /users HTTP/1.0"),
    "unknown expectation": get(b"Expect: wonders"),
    "chunk size of words": chunked(b"many\r\n{}\r\n0\r\n\r\n"),
    "negative chunk size": chunked(b"-2\r\n{}\r\n0\r\n\r\n"),
    "empty chunk size": chunked(b"\r\n{}\r\n0\r\n\r\n"),
    "prefixed chunk size": chunked(b"0x2\r\n{}\r\n0\r\n\r\n"),
    "chunk longer than its size": chunked(b"1\r\n{}\r\n0\r\n\r\n"),
    "chunk shorter than its size": chunked(b"f\r\n{}\r\n0\r\n\r\n"),
    "endless chunk size": chunked(b"1" * 20_000),
    "huge chunk size": chunked(b"f" * 100 + b"\r\n{}\r\n"),
    "chunks that do not end": chunked(b"2\r\n{}\r\n"),
    "no chunk at all": chunked(b""),
    "bad trailer": chunked(b"2\r\n{}\r\n0\r\nX Y: a\r\n\r\n"),
    "many trailers": chunked(b"2\r\n{}\r\n0\r\n" + b"X: a\r\n" * 300 + b"\r\n"),
    "body shorter than promised": (
        b"POST /users HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        b"Content-Length: 100\r\n\r\n{}"
    ),
    "no address": get(line=b"GET nowhere HTTP/1.1"),
    "an address of another kind": get(line=b"CONNECT a:443 HTTP/1.1"),
    "no UTF-8 in the path": get(line=b"GET /\xff\xfe HTTP/1.1"),
    "no UTF-8 in the query": get(
        b"X-API-Key: " + API_KEY.encode(), line=b"GET /users?email=\xff\xfe HTTP/1.1"
    ),
    "a host with a slash": b"GET /nowhere HTTP/1.1\r\nHost: a/b\r\n\r\n",
    "a host too long for a name": b"GET /health HTTP/1.1\r\nHost: " + b"a" * 300 + b".b\r\n\r\n",
}


@pytest.mark.parametrize("raw", HOSTILE.values(), ids=HOSTILE)
def test_what_is_hardly_a_request_is_answered_with_a_problem(server, raw):
    response, body = server.send(raw)

    assert 400 <= response.status < 500 or response.status == 501
    assert response.headers["Content-Type"] == "application/problem+json"
    problem = json.loads(body)
    assert problem["status"] == response.status
    assert problem["request_id"] == response.headers["X-Request-ID"]
    assert problem["title"]
    assert problem["error"] == problem["detail"]
    assert not {*problem} ^ {
        "type", "title", "status", "detail", "instance",
        "error", "code", "errors", "request_id", "trace_id",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        ("garbage", 400, "bad_request"),
        ("long line", 414, "uri_too_long"),
        ("long header", 431, "request_header_fields_too_large"),
        ("unknown coding before chunks", 501, "not_implemented"),
        ("unknown expectation", 417, "expectation_failed"),
    ],
)
def test_what_is_hardly_a_request_gets_the_status_that_says_why(server, kind, status, code):
    response, body = server.send(HOSTILE[kind])

    problem = json.loads(body)
    assert response.status == problem["status"] == status
    assert problem["title"] == response.reason
    assert problem["code"] == code


@pytest.mark.parametrize(
    "raw",
    [
        b"GET /<script> HTTP/7.7\r\nHost: a\r\n\r\n",
        b"<script> /health HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /health <script>\r\nHost: a\r\n\r\n",
        get(b"<script>: x"),
        get(b"Content-Length: <script>"),
        get(b"Transfer-Encoding: <script>"),
        chunked(b"<script>\r\n"),
    ],
)
def test_hostile_input_is_not_repeated(server, raw):
    response, body = server.send(raw)

    assert response.headers["Content-Type"] == "application/problem+json"
    assert b"script" not in body
    assert "script" not in str(response.headers)


@pytest.mark.parametrize("raw", [get(), get(line=b"GET /unknown HTTP/1.1"), HOSTILE["words"]])
def test_no_answer_names_what_it_was_made_with(server, raw):
    response, body = server.send(raw)

    assert {"Server", "X-Powered-By", "Via"}.isdisjoint(response.headers.keys())
    assert not re.search("gunicorn|werkzeug|flask|python", f"{response.headers} {body}".lower())


@pytest.mark.parametrize("size", [MAX_BODY_BYTES + 1, 2_000_000])
def test_a_caller_reads_that_its_body_is_too_large(server, size):
    response, body = server.request(
        "POST", "/users", b" " * size, {"Content-Type": "application/json"}
    )

    assert response.status == 413
    assert json.loads(body)["code"] == "content_too_large"


@pytest.mark.parametrize("pieces", [[b" " * (MAX_BODY_BYTES + 1)], [b" " * 1000] * 70])
def test_a_chunked_body_that_is_too_large_is_refused(server, pieces):
    body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"

    response, answer = server.send(chunked(body))

    assert response.status == 413
    assert json.loads(answer)["code"] == "content_too_large"


def test_a_chunked_body_is_read(server):
    body = json.dumps({"email": "chunked@example.com", "name": "Ada"}).encode()
    halves = (body[:20], body[20:])
    pieces = b"".join(b"%x\r\n%b\r\n" % (len(half), half) for half in halves)

    response, _ = server.send(chunked(pieces + b"0\r\n\r\n"))

    assert response.status == 201


def test_a_connection_serves_the_next_request_after_a_refused_body(server):
    with closing(HTTPConnection(HOST, server.port, timeout=DEADLINE_SECONDS)) as connection:
        connection.request("POST", "/users", b"x" * 1000, {"Content-Type": "text/plain"})
        refused = connection.getresponse()
        refused.read()
        connection.request("GET", "/health")
        served = connection.getresponse()

        assert refused.status == 415
        assert served.status == 200


def test_a_caller_that_sends_nothing_keeps_nobody_waiting(server):
    with (
        socket.create_connection((HOST, server.port)),
        socket.create_connection((HOST, server.port)) as half,
    ):
        half.sendall(b"POST /users HTTP/1.1\r\nHost: a\r\n")

        response, _ = server.request("GET", "/health")

    assert response.status == 200
