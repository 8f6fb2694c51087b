from __future__ import annotations

import socket
import threading
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
from sqlalchemy import create_engine, text

from app import create_app
from bootstrap import open_backing_services
from chassis.errors import Unavailable
from chassis.http import health
from chassis.http.context import context_of
from chassis.http.health import Readiness
from chassis.storage import migrations
from chassis.storage.database import DatabaseManager, with_driver
from config import AppConfig
from tests.support.mail_server import MailServer
from tests.support.ports import HOST, free_port
from tests.support.waiting import DEADLINE_SECONDS, eventually

TIMEOUT = timedelta(seconds=0.3)


@pytest.fixture
def serve(database_url):
    """Call that returns a caller of an application with the given settings."""
    opened = []
    # A check that hangs is no more than a slow one on a busy machine, unless a test says so.
    defaults = {"database_url": database_url, "redis_url": "", "ready_timeout_seconds": 30}

    def serve(**settings):
        config = AppConfig(**defaults | settings)
        services = open_backing_services(config)
        app = create_app(config, services)
        opened.append((app, services))
        return app.test_client()

    yield serve
    for app, services in opened:
        await_checks(context_of(app).readiness)
        services.close()


def await_checks(readiness):
    """Wait for checks that hang: what they log in the end is not the next test's."""
    for thread in readiness._running.values():  # noqa: SLF001 - nobody else has to wait for them
        thread.join(DEADLINE_SECONDS)


@pytest.fixture
def dead_address():
    """Where nobody listens."""
    return f"{HOST}:{free_port()}"


@pytest.fixture
def silent_address():
    """Where somebody listens who never says a word."""
    with socket.create_server((HOST, 0)) as listener:
        yield f"{HOST}:{listener.getsockname()[1]}"


@pytest.fixture
def answering_url():
    """URL of a service that answers with the status that the path names."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(int(self.path.strip("/")))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_arguments):
            pass

    with ThreadingHTTPServer((HOST, 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://{HOST}:{server.server_port}"
        server.shutdown()
        thread.join()


class Clock:
    """Time that passes when the test says so."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(health, "time", SimpleNamespace(monotonic=clock.monotonic))
    return clock


def readiness(checks, required=("a",), timeout=TIMEOUT):
    return Readiness(checks, required=frozenset(required), timeout=timeout)


def fail():
    raise Unavailable


def test_a_process_is_healthy_whatever_is_away(serve, dead_address):
    client = serve(
        database_url=f"postgresql://app@{dead_address}/app",
        redis_url=f"redis://{dead_address}",
        app_version="1.2.3",
        environment="staging",
    )

    before = datetime.now(UTC)
    response = client.get("/health")

    document = dict(response.json)
    assert response.status_code == 200
    assert before <= datetime.fromisoformat(document.pop("timestamp")) <= datetime.now(UTC)
    assert document == {"status": "healthy", "version": "1.2.3", "environment": "staging"}


def test_the_version_says_what_runs(serve):
    response = serve(app_version="1.2.3", build_id="abc", environment="staging").get("/version")

    assert response.status_code == 200
    assert response.json == {
        "service": "cloudnative-user-api",
        "version": "1.2.3",
        "build_id": "abc",
        "environment": "staging",
    }


@pytest.mark.parametrize("path", ["/health", "/ready", "/version"])
def test_a_probe_is_for_everyone_and_is_not_cached(serve, path):
    client = serve(api_key="key")

    assert client.get(path).status_code == 200
    assert client.head(path).status_code == 200
    assert client.get(path).headers["Cache-Control"] == "no-store"
    assert client.post(path).status_code == 405


def test_a_process_is_ready_when_everything_answers(serve, redis_url, answering_url):
    client = serve(redis_url=redis_url, email_service_url=f"{answering_url}/200")

    before = datetime.now(UTC)
    response = client.get("/ready")

    document = dict(response.json)
    assert response.status_code == 200
    assert before <= datetime.fromisoformat(document.pop("timestamp")) <= datetime.now(UTC)
    assert document == {
        "status": "ready",
        "checks": {"database": True, "redis": True, "external_apis": True},
        "reasons": [],
    }


def test_what_is_not_configured_counts_as_true(serve):
    response = serve(ready_requires="database,redis,external_apis").get("/ready")

    assert response.status_code == 200
    assert response.json["status"] == "ready"
    assert response.json["checks"] == {"database": True, "redis": True, "external_apis": True}


def test_a_process_without_its_database_is_not_ready(serve, dead_address):
    client = serve(database_url=f"postgresql://app@{dead_address}/app")

    response = client.get("/ready")

    assert response.status_code == 503
    assert response.json["status"] == "not_ready"
    assert response.json["checks"] == {"database": False, "redis": True, "external_apis": True}
    assert response.json["reasons"] == ["database"]


def test_a_process_without_something_optional_is_degraded(serve, dead_address):
    response = serve(redis_url=f"redis://{dead_address}").get("/ready")

    assert response.status_code == 200
    assert response.json["status"] == "degraded"
    assert response.json["checks"] == {"database": True, "redis": False, "external_apis": True}
    assert response.json["reasons"] == ["redis"]


@pytest.mark.parametrize(
    ("requires", "status"),
    [
        ("", 200),
        ("database", 200),
        ("redis", 503),
        ("database,redis,external_apis", 503),
        ("external_apis", 200),
    ],
)
def test_what_is_required_decides_whether_the_process_is_ready(
    serve, dead_address, requires, status
):
    client = serve(redis_url=f"redis://{dead_address}", ready_requires=requires)

    assert client.get("/ready").status_code == status


def test_a_process_may_be_declared_ready_without_its_database(serve, dead_address):
    client = serve(database_url=f"postgresql://app@{dead_address}/app", ready_requires="")

    response = client.get("/ready")

    assert (response.status_code, response.json["status"]) == (200, "degraded")


@pytest.mark.parametrize("status", [200, 301, 401, 404, 429])
def test_any_answer_of_a_service_below_500_counts_as_true(serve, answering_url, status):
    client = serve(payment_service_url=f"{answering_url}/{status}")

    assert client.get("/ready").json["checks"]["external_apis"] is True


@pytest.mark.parametrize("status", [500, 503])
def test_an_error_of_a_service_counts_as_false(serve, answering_url, status):
    client = serve(email_service_url=f"{answering_url}/{status}")

    assert client.get("/ready").json["checks"]["external_apis"] is False


def test_all_services_have_to_answer(serve, answering_url, dead_address):
    client = serve(
        email_service_url=f"{answering_url}/200", payment_service_url=f"http://{dead_address}"
    )

    assert client.get("/ready").json["checks"]["external_apis"] is False


def messages_about(caplog, check):
    """Leave out what a check of an earlier test, cut off in mid-air, may still say."""
    return [each.message for each in caplog.records if getattr(each, "check", None) == check]


@pytest.mark.parametrize(
    "url", ["http://nowhere.invalid", "https://[::1]:1/", "http://xn--é/", f"http://{'a' * 70}.com"]
)
def test_a_service_that_cannot_be_called_at_all_is_away_and_no_bug(serve, caplog, url):
    response = serve(email_service_url=url).get("/ready")

    assert response.status_code == 200
    assert response.json["checks"]["external_apis"] is False
    assert messages_about(caplog, "external_apis") == ["Readiness check failed"]


def test_the_banner_of_a_mail_server_is_asked_for_seldom_however_often_probes_come(serve, clock):
    with closing(MailServer()) as server:
        client = serve(email_service_url=server.url, email_from="no-reply@example.com")

        checks = []
        for _ in range(5):
            checks.append(client.get("/ready").json["checks"]["external_apis"])
            clock.now += 2

        eventually(lambda: server.connections)
        assert checks == [True] * 5
        assert server.connections == 1
        assert server.commands == []


@pytest.mark.parametrize("host", ["nowhere.invalid", "xn--é", "a" * 70 + ".com", "[::1]"])
def test_a_mail_server_that_cannot_be_called_at_all_is_away_and_no_bug(serve, caplog, host):
    url = f"smtps://u:p@{host}:1"
    response = serve(email_service_url=url, email_from="no-reply@example.com").get("/ready")

    assert response.status_code == 200
    assert response.json["checks"]["external_apis"] is False
    assert messages_about(caplog, "external_apis") == ["Readiness check failed"]


def test_a_schema_that_is_behind_is_not_ready_until_it_is_migrated(
    serve, empty_database, empty_database_url, clock
):
    client = serve(database_url=empty_database_url, ready_requires="")

    before = client.get("/ready")
    migrations.upgrade(empty_database)
    clock.now += 2
    after = client.get("/ready")

    assert (before.status_code, before.json["status"]) == (503, "not_ready")
    assert before.json["reasons"] == ["schema"]
    assert before.json["checks"]["database"] is True
    assert (after.status_code, after.json["reasons"]) == (200, [])


def test_a_schema_of_newer_code_is_ready(serve, empty_database, empty_database_url):
    migrations.upgrade(empty_database)
    with empty_database.connection() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))

    assert serve(database_url=empty_database_url).get("/ready").status_code == 200


@pytest.mark.parametrize("kind", ["redis", "service"])
def test_a_dependency_that_hangs_costs_no_more_than_the_timeout(serve, silent_address, kind):
    hanging: dict[str, dict[str, object]] = {
        "redis": {"redis_url": f"redis://{silent_address}", "redis_timeout_seconds": 60},
        "service": {
            "email_service_url": f"http://{silent_address}",
            "email_timeout_seconds": 60,
            "outbox_lease_seconds": 600,
        },
    }
    client = serve(**hanging[kind], ready_timeout_seconds=3)  # enough for the others
    client.get("/version")

    begin = time.monotonic()
    response = client.get("/ready")

    assert time.monotonic() - begin < 60 / 2
    assert response.status_code == 200
    assert response.json["status"] == "degraded"
    assert response.json["checks"]["database"] is True


def test_checks_that_hang_do_not_pile_up_and_recover_when_they_end(clock):
    hanging = threading.Event()
    begun = []

    def hang():
        begun.append(1)
        hanging.wait(DEADLINE_SECONDS)

    def is_ready():
        clock.now += 2
        return not ready.failed()

    ready = readiness({"a": hang}, timeout=timedelta(milliseconds=20))
    seen = []
    for _ in range(5):
        seen.append(ready.failed())
        clock.now += 2
    number = len(begun)
    hanging.set()
    eventually(is_ready)

    assert seen == [frozenset({"a"})] * 5
    assert number == 1


def test_checks_run_side_by_side():
    together = threading.Barrier(3, timeout=DEADLINE_SECONDS)

    ready = readiness(
        dict.fromkeys("abc", together.wait), timeout=timedelta(seconds=DEADLINE_SECONDS)
    )

    assert ready.failed() == frozenset()


def test_checks_that_hang_side_by_side_cost_one_timeout_together():
    hanging = threading.Event()
    names = [str(number) for number in range(60)]
    ready = readiness(
        dict.fromkeys(names, lambda: hanging.wait(DEADLINE_SECONDS)), timeout=timedelta(seconds=1)
    )

    begin = time.monotonic()
    failed = ready.failed()
    waited = time.monotonic() - begin
    hanging.set()

    assert failed == frozenset(names)
    assert waited < len(names) / 2


def test_an_answer_is_kept_for_about_a_second(clock):
    calls = []
    ready = readiness({"a": lambda: calls.append(1)})

    numbers = []
    for _ in range(4):
        ready.failed()
        numbers.append(len(calls))
        clock.now += 0.6

    assert numbers == [1, 1, 2, 2]


def test_a_failure_is_kept_no_longer_than_a_success(clock):
    away = [True]
    ready = readiness({"a": lambda: away and fail()})

    first = ready.failed()
    away.clear()
    kept = ready.failed()
    clock.now += 1.1
    second = ready.failed()

    assert (first, kept, second) == (frozenset("a"), frozenset("a"), frozenset())


def test_many_callers_at_once_make_one_round_trip():
    calls = []
    ready = readiness({"a": lambda: calls.append(1)})
    start = threading.Barrier(8, timeout=DEADLINE_SECONDS)

    def ask():
        start.wait()
        ready.failed()

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_SECONDS)

    assert calls == [1]


def test_a_check_that_fails_is_logged_with_its_reason(caplog):
    readiness({"a": fail}).failed()

    (record,) = (each for each in caplog.records if getattr(each, "check", None) == "a")
    assert (record.levelname, record.message) == ("WARNING", "Readiness check failed")
    assert (record.check, record.error_type) == ("a", "Unavailable")


def test_a_check_with_a_bug_counts_as_failed_and_is_logged_as_an_error(caplog):
    failed = readiness({"a": lambda: 1 / 0, "b": lambda: None}).failed()

    (record,) = (each for each in caplog.records if getattr(each, "check", None) == "a")
    assert failed == frozenset("a")
    assert (record.levelname, record.check) == ("ERROR", "a")
    assert record.exc_info[0] is ZeroDivisionError


def set_read_only(url, value):
    engine = create_engine(with_driver(url), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("SET default_transaction_read_only = off"))
        name = f'"{engine.url.database}"'
        connection.execute(
            text(f"ALTER DATABASE {name} SET default_transaction_read_only = {value}")
        )
    engine.dispose()


@pytest.mark.parametrize(
    ("required", "answer"), [("database", (503, "not_ready")), ("", (200, "degraded"))]
)
def test_ready_says_that_the_database_is_read_only(
    serve, empty_postgresql_url, clock, required, answer
):
    migrations.upgrade(DatabaseManager(empty_postgresql_url).initialize())
    client = serve(database_url=empty_postgresql_url, ready_requires=required)

    set_read_only(empty_postgresql_url, "on")
    during = client.get("/ready")
    set_read_only(empty_postgresql_url, "off")
    clock.now += 2
    after = client.get("/ready")

    assert (during.status_code, during.json["status"]) == answer
    assert during.json["reasons"] == ["read_only"]
    assert during.json["checks"]["database"] is True
    assert (after.status_code, after.json["reasons"]) == (200, [])


def test_a_request_before_the_first_migration_is_503(serve, empty_database_url):
    client = serve(database_url=empty_database_url)

    answer = client.post("/users", json={"email": "ada@example.com", "name": "Ada"})

    assert (answer.status_code, answer.json["detail"]) == (503, "The schema is behind")
    assert answer.headers["Retry-After"] == "1"


def test_a_request_that_the_role_has_no_privilege_for_is_503_and_one_log_line(
    serve, empty_postgresql_url, powerless_url, caplog
):
    migrations.upgrade(DatabaseManager(empty_postgresql_url).initialize())
    client = serve(database_url=powerless_url, api_key="key")

    answer = client.get("/users", headers={"X-API-Key": "key"})

    (line,) = [each for each in caplog.records if each.levelname in {"WARNING", "ERROR"}]
    assert (answer.status_code, answer.json["detail"]) == (503, "The database denies permission")
    assert answer.headers["Retry-After"] == "1"
    assert (line.message, line.code) == ("Request failed", "unavailable")
