from __future__ import annotations

import io
import json
import logging
import re
import socket
import warnings
from contextlib import closing
from datetime import datetime

import psycopg2
import pytest
from opentelemetry import baggage, context

from chassis.telemetry.log_fields import add_log_fields, log_fields
from chassis.telemetry.propagation import Propagator
from config import AppConfig
from observability import setup_logging
from tests.conftest import API_KEY
from tests.support.factories import ADA
from tests.support.ports import HOST
from tests.support.waiting import DEADLINE_SECONDS, eventually

FIELDS = {
    "timestamp",
    "level",
    "logger",
    "message",
    "module",
    "function",
    "line",
    "app_version",
    "build_id",
    "environment",
    "service_name",
    "service_version",
    "trace_id",
    "span_id",
    "trace_flags",
}
FORGED = '{"level": "INFO", "message": "forged"}'
# Everything that somebody's terminal, shell or log reader may take for the end of a line.
HOSTILE = f"x\n{FORGED}\r\n{FORGED}\x0b\x0c\x1b[2J\x00\x85\u2028\u2029{FORGED}"
TEXT_LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} - [\w.]+ - [A-Z]+ - .*")
SERVICE = {"X-API-Key": API_KEY}


@pytest.fixture
def log():
    """Set logging up as a process does, for one format; return what was written."""
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    stream = io.StringIO()

    def start(log_format="json", **settings):
        setup_logging(AppConfig(log_format=log_format, redis_url="", **settings), stream)
        return stream.getvalue

    yield start
    root.handlers[:], level = before[0], before[1]
    root.setLevel(level)
    logging.captureWarnings(capture=False)


def test_every_line_of_a_process_is_an_object_with_all_fields(serve):
    service = serve(WEB_CONCURRENCY="2", APP_VERSION="1.2.3", BUILD_ID="abc", LOG_LEVEL="DEBUG")
    service.client.post("/users", json=ADA)
    service.client.post("/users", json=ADA)
    service.client.get("/nope")
    send_raw(service, b"this is not HTTP\r\n\r\n")

    service.stop()

    assert all(line.keys() >= FIELDS for line in service.lines)
    assert {line["app_version"] for line in service.lines} == {"1.2.3"}
    assert {line["service_version"] for line in service.lines} == {"1.2.3"}
    assert {line["build_id"] for line in service.lines} == {"abc"}
    assert {line["service_name"] for line in service.lines} == {"cloudnative-user-api"}
    assert {line["environment"] for line in service.lines} == {"development"}
    assert all(re.fullmatch(r"[0-9a-f]{32}", line["trace_id"]) for line in service.lines)
    assert all(datetime.fromisoformat(line["timestamp"]) for line in service.lines)
    assert {"gunicorn.error", "access"} <= {line["logger"] for line in service.lines}
    [booted, _] = [line for line in service.lines if "Booting worker" in line["message"]]
    assert int(booted["trace_id"], 16) == int(booted["span_id"], 16) == 0
    assert service.errors == ""


def test_each_request_has_one_access_line_and_probes_have_none(serve):
    service = serve(WEB_CONCURRENCY="2")
    for path in ("/health", "/ready", "/metrics", "/version"):
        service.client.get(path)

    user = service.client.post("/users", json=ADA, headers={"X-Request-ID": "req-1"}).json()
    service.client.get(f"/users/{user['id']}", headers=SERVICE | {"X-Request-ID": "req-2"})
    service.client.get("/nope?secret=1", headers={"X-Request-ID": "req-3"})

    lines = service.logged("Request answered")
    assert [
        (each["request_id"], each["method"], each["route"], each["status"]) for each in lines
    ] == [
        ("req-1", "POST", "/users", 201),
        ("req-2", "GET", "/users/<uuid:user_id>", 200),
        ("req-3", "GET", "", 404),
    ]
    assert all(0 < line["duration_ms"] < 30_000 for line in lines)


def test_the_creation_of_a_user_is_logged_with_ids_and_no_address(serve):
    service = serve()

    user = service.client.post("/users", json=ADA | {"source": "web"}).json()

    [line] = service.logged("User created successfully")
    assert line["level"] == "INFO"
    assert line["user_id"] == user["id"]
    assert line["signup_source"] == "web"
    assert line["request_id"]
    assert ADA["email"] not in service.output


def test_what_a_request_is_about_is_on_its_lines(serve):
    service = serve(DATABASE_POOL_SIZE="5")
    password = "correct horse battery staple 93"
    user = service.client.post("/users", json=ADA | {"password": password}).json()
    form = {"grant_type": "password", "username": ADA["email"], "password": password}
    token = service.client.post("/auth/token", data=form).json()["access_token"]

    service.client.get(
        "/users/me",
        headers={"Authorization": f"Bearer {token}", "baggage": "tenant=acme,plan=gold%20one"},
    )

    line = service.logged("Request answered")[-1]
    assert line["user_id"] == user["id"]
    assert line["baggage_tenant"] == "acme"
    assert line["baggage_plan"] == "gold one"
    assert "user_id" not in service.logged("Request answered")[0]


@pytest.fixture
def broken_table(postgresql_url):
    """A database that refuses every user, and quotes the row when it does."""
    with closing(psycopg2.connect(postgresql_url.replace("+psycopg2", ""))) as connection:
        connection.autocommit = True
        cursor = connection.cursor()
        cursor.execute("ALTER TABLE users ADD CONSTRAINT nobody CHECK (name = 'nobody')")
        yield postgresql_url
        cursor.execute("ALTER TABLE users DROP CONSTRAINT nobody")


def test_a_failure_is_logged_once_with_its_trace_and_without_the_row(serve, broken_table):
    service = serve(DATABASE_URL=broken_table)

    response = service.client.post("/users", json=ADA)

    assert response.status_code == 500
    assert response.json()["error"] == "Internal server error"
    [failed] = service.logged("User creation failed")
    assert failed["level"] == "ERROR"
    assert failed["error_type"] == "IntegrityError"
    assert failed["trace_id"] == response.json()["trace_id"]
    assert "CheckViolation" in failed["exception"]
    assert "DETAIL: (left out)" in failed["exception"]
    assert ADA["email"] not in service.output
    assert ADA["name"] not in service.output


def test_a_failure_in_text_format_leaves_the_row_out_too(serve, broken_table):
    service = serve(DATABASE_URL=broken_table, LOG_FORMAT="text")

    service.client.post("/users", json=ADA)

    assert "CheckViolation" in service.output
    assert ADA["email"] not in service.output


def log_exception(message):
    def fail():
        raise ValueError(message)

    try:
        fail()
    except ValueError:
        logging.getLogger("test").exception("Broken")


def send_raw(service, data):
    with socket.create_connection((HOST, service.port), timeout=DEADLINE_SECONDS) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(4096):
            pass


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_hostile_requests_forge_no_line(serve, log_format):
    service = serve(LOG_FORMAT=log_format, LOG_LEVEL="DEBUG")
    forged = FORGED.encode()
    before = service.output.count("\n")
    path = b"GET /%0a" + forged.replace(b" ", b"%20") + b" HTTP/1.1\r\nHost: x\r\n"

    send_raw(service, b"GET /x\r" + forged + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    send_raw(service, b"GET / HTTP/1.1\r\nHost: x\r\nX-Bad\x1b: " + forged + b"\n\r\n")
    send_raw(service, path + b"User-Agent: \x1b[2J" + forged + b"\r\n\r\n")
    send_raw(service, path + b"X-Request-ID: a\xe2\x80\xa8b\r\nbaggage: k=v%0d%0a\r\n\r\n")
    service.client.post("/users", json={"email": HOSTILE, "name": HOSTILE, "source": HOSTILE})
    eventually(lambda: service.output.count("Request answered") >= 2)

    new = service.output.split("\n")[before:-1]
    if log_format == "json":
        assert "forged" not in [json.loads(line)["message"] for line in new]
    else:
        assert all(TEXT_LINE.fullmatch(line) for line in new)
    assert "\x1b" not in service.output
    assert service.errors == ""


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_hostile_messages_forge_no_line(log, log_format):
    written = log(log_format)

    logging.getLogger("test").info("said %s", HOSTILE, extra={"also": HOSTILE})

    assert len(written().splitlines()) == 1
    assert "\x1b" not in written()


def test_fields_stand_behind_the_message_in_text_format(log):
    written = log("text")

    logging.getLogger("test").info("It happened", extra={"route": "/users/<uuid:id>", "ms": 1.2})

    assert written().endswith(" - test - INFO - It happened route=/users/<uuid:id> ms=1.2\n")


def test_a_field_passes_for_no_other_in_text_format(log):
    written = log("text")

    logging.getLogger("test").info("It happened", extra={"reason": "x status=200", "none": ""})

    assert written().endswith(' It happened reason="x status=200" none=""\n')


def test_colours_are_left_out_of_text_format(log):
    written = log("text")

    logging.getLogger("test").info("\x1b[31m\x1b[1mWARNING\x1b[0m")

    assert written().endswith(" - WARNING\n")


def test_the_text_of_an_exception_cannot_pass_for_a_line(log):
    written = log("text")
    line = "2026-01-01 00:00:00,000 - admin - INFO - all is well"

    log_exception(f"x\n{line}\r{line}\u2028{line}")

    first, *rest = written().splitlines()
    assert first.endswith("- ERROR - Broken")
    assert rest
    assert all(each.startswith("  ") for each in rest)


def test_an_exception_stays_on_its_line_in_json(log):
    written = log()

    log_exception(HOSTILE)

    [line] = written().splitlines()
    assert "ValueError" in json.loads(line)["exception"]
    assert "test_logs.py" in json.loads(line)["exception"]


def test_what_postgresql_quotes_is_left_out(log):
    written = log()
    message = (
        "new row violates check constraint\nDETAIL:  Failing row contains (ada@example.com).\n"
        'CONTEXT:  COPY users, line 1, column email: "ada@example.com"\n'
        "LINE 1: INSERT INTO users VALUES ('ada@example.com')\nHINT:  Do not."
    )

    log_exception(message)

    exception = json.loads(written())["exception"]
    assert "ada@example.com" not in exception
    assert "HINT:  Do not." in exception


def test_warnings_are_lines_like_all_others(log):
    written = log()

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=True)
        warnings.warn("old\nhabit", DeprecationWarning, stacklevel=1)

    line = json.loads(written())
    assert line["logger"] == "py.warnings"
    assert line["level"] == "WARNING"
    assert "DeprecationWarning: old\nhabit" in line["message"]


def test_what_extra_holds_is_on_the_line_whatever_it_is(log):
    written = log()

    logging.getLogger("test").info("x", extra={"number": 1, "thing": {1}, "text": "é\ud800"})

    line = json.loads(written())
    assert (line["number"], line["thing"]) == (1, "{1}")
    assert line["text"] == "é\ud800"


def test_no_field_takes_the_place_of_one_of_the_lines_own(log):
    written = log()
    own = ("timestamp", "level", "logger", "module", "function", "line", "trace_id", "span_id")

    logging.getLogger("test").info("Said", extra=dict.fromkeys({*own} - {"module"}, "forged"))

    line = json.loads(written())
    assert (line["level"], line["logger"], line["trace_id"]) == ("INFO", "test", "0" * 32)
    assert [name for name in own if line[name] == "forged"] == []


def test_fields_of_a_request_are_on_its_lines_and_no_others(log):
    written = log()
    token = log_fields.set({"request_id": "r-1"})

    add_log_fields(user_id="u-1")
    logging.getLogger("test").info("during")
    log_fields.reset(token)
    logging.getLogger("test").info("after")

    during, after = map(json.loads, written().splitlines())
    assert (during["request_id"], during["user_id"]) == ("r-1", "u-1")
    assert not {"request_id", "user_id"} & after.keys()


def test_a_line_about_a_user_names_that_one_and_not_the_caller(log):
    written = log()
    token = log_fields.set({"request_id": "r-1", "user_id": "caller"})

    logging.getLogger("test").info("about another", extra={"user_id": "another"})
    logging.getLogger("test").info("about nobody")
    log_fields.reset(token)

    about, plain = map(json.loads, written().splitlines())
    assert (about["request_id"], about["user_id"]) == ("r-1", "another")
    assert plain["user_id"] == "caller"


def test_baggage_is_on_the_line(log):
    written = log()
    token = context.attach(baggage.set_baggage("user.signup_source", "web"))

    logging.getLogger("test").info("x")
    context.detach(token)

    assert json.loads(written())["baggage_user.signup_source"] == "web"


def test_libraries_keep_their_details_to_themselves(log):
    written = log(log_level="DEBUG")

    logging.getLogger("sqlalchemy.engine.Engine").info("INSERT ... ada@example.com")
    logging.getLogger("urllib3.connectionpool").info("POST https://mail?to=ada@example.com")

    assert written() == ""


TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize(
    "headers",
    [
        {"baggage": "canary"},
        {"baggage": "a b=canary"},
        {"baggage": "canary\xff=1"},
        {"baggage": "canary=" + "a" * 5000},
        {"baggage": "canary=" + "a" * 9000},
        {"traceparent": TRACE, "tracestate": "canary"},
        {"traceparent": TRACE, "tracestate": "canary=1,canary=1"},
        {"traceparent": TRACE, "tracestate": ",".join(f"canary{n}=1" for n in range(40))},
        {"traceparent": TRACE, "tracestate": "canary=" + "a" * 900},
        {"x-b3-traceid": "canary", "x-b3-spanid": "canary"},
        {"traceparent": "canary"},
    ],
)
def test_a_header_that_cannot_be_read_is_not_quoted_and_uses_up_no_complaint(log, headers):
    written = log()

    Propagator().extract(headers)
    logging.getLogger("opentelemetry.exporter").warning("away")

    (line,) = map(json.loads, written().splitlines())
    assert line["message"] == "away"


def test_text_is_for_people(log):
    written = log("text")

    logging.getLogger("test").warning("Hello")

    assert TEXT_LINE.fullmatch(written().rstrip("\n"))
    assert written().endswith(" - test - WARNING - Hello\n")
