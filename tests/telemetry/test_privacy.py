"""All personal data that callers send stays out of telemetry."""

from __future__ import annotations

import json
from contextlib import closing, suppress
from urllib.parse import quote

import psycopg2
import pytest
from werkzeug.exceptions import HTTPException
from werkzeug.routing import MapAdapter

from app import create_app
from config import AppConfig
from tests.conftest import API_KEY
from tests.support.collector import Collector
from tests.support.collector import collector as run_collector
from tests.support.deployment import Worker
from tests.support.serving import Service
from tests.support.waiting import eventually

EMAIL = "Zaphod.Quuxley+tag@example.org"
NAME = "Trillian Quibblewick"
PASSWORD = "correct horse battery staple 93"
OTHER = "Marvin.Quuxley@example.org"
SERVICE = {"X-API-Key": API_KEY}
NOBODY = "/users/018f0000-0000-7000-8000-000000000000"
# Where programs and people put addresses and names.
HEADERS = {
    "User-Agent": f"crawler (+mailto:{EMAIL})",
    "From": EMAIL,
    "Referer": f"https://example.org/?email={quote(EMAIL)}",
    "Cookie": f"email={quote(EMAIL)}; name={quote(NAME)}",
    "X-Request-ID": EMAIL,
    "baggage": f"user.email={quote(EMAIL)},tenant=acme",
    "X-Forwarded-User": NAME,
}


@pytest.fixture
def telemetry():
    with run_collector() as running:
        yield running


@pytest.fixture(params=["json", "text"])
def variables(request, telemetry, postgresql_url):
    return telemetry.variables | {
        "DATABASE_URL": postgresql_url,
        "LOG_LEVEL": "DEBUG",
        "LOG_FORMAT": request.param,
        "EMAIL_VERIFICATION": "optional",
    }


@pytest.fixture
def service(serve, variables):
    return serve(WEB_THREADS="8", **variables)


@pytest.fixture
def worker(tmp_path, variables, provider):
    """A worker whose e-mails are refused, so that there is something to tell."""
    provider.answer = 503
    process = Worker(tmp_path, variables | {"EMAIL_SERVICE_URL": provider.url})
    yield process
    process.kill()


def drive(  # noqa: PLR0915 - one line a call
    service: Service, url: str
) -> set[tuple[str, int]]:
    """Call every route, with success and without; return what was called with which result."""
    answers = []
    client = service.client
    client.headers.update(HEADERS)

    def call(method, path, **options):
        answer = client.request(method, path, **options)
        answers.append((f"{method} {path.split('?')[0]}", answer.status_code))
        return answer

    query = f"?email={quote(EMAIL)}&name={quote(NAME)}&{quote(EMAIL)}=1"
    body = {"email": EMAIL, "name": NAME, "password": PASSWORD, "source": EMAIL, "tier": NAME}
    user = call("POST", f"/users{query}", json=body).json()
    call("POST", "/users", json=body)
    call("POST", "/users", json=body | {"email": f"{EMAIL} {NAME}"})
    call("POST", "/users", content=f'{{"email": "{EMAIL}"'.encode())
    keyed = {"Idempotency-Key": f"{EMAIL} {NAME}"}
    other = {"email": OTHER, "name": NAME}
    for _ in range(2):
        call("POST", "/users", json=other, headers=keyed)
    call("POST", "/users", json=body, headers=keyed)
    call("GET", f"/users{query}", headers=SERVICE)
    call("GET", f"/users?email={quote(EMAIL)}", headers=SERVICE)
    call("GET", f"/users?email={quote(EMAIL)}")
    form = {"grant_type": "password", "username": EMAIL, "password": PASSWORD}
    call("POST", "/auth/token", data=form | {"password": NAME})
    call("POST", "/auth/token", data=form | {"grant_type": EMAIL})
    tokens = call("POST", "/auth/token", data=form).json()
    bearer = {"Authorization": f"Bearer {tokens['access_token']}"}
    call("GET", "/users/me", headers=bearer)
    call("GET", "/users/me", headers={"Authorization": f"Basic {EMAIL}"})
    path = f"/users/{user['id']}"
    call("GET", path, headers=bearer)
    call("GET", f"/users/{EMAIL}", headers=SERVICE)
    call("GET", f"/users/{quote(NAME)}", headers=SERVICE)
    call("GET", NOBODY, headers=SERVICE)
    merge = SERVICE | {"Content-Type": "application/merge-patch+json"}
    call("PATCH", path, json={"name": f"{NAME} II"}, headers=merge)
    call("PATCH", path, json={"email": OTHER}, headers=merge)
    call("PATCH", path, json={EMAIL: NAME}, headers=merge)
    call("PATCH", path, json={"name": NAME}, headers=merge | {"If-Match": f'"{EMAIL}"'})
    drive_email(call, path, bearer)
    call("GET", f"{path}/sessions{query}", headers=bearer)
    call("DELETE", f"{path}/sessions/{NOBODY[7:]}", headers=bearer)
    call("DELETE", f"{path}/sessions?keep={quote(EMAIL)}", headers=bearer)
    change_password(call, path, bearer)
    refresh = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
    call("POST", "/auth/token", data=refresh)
    call("POST", "/auth/token", data=refresh)
    call("POST", "/auth/revoke", data={"token": EMAIL})
    lines = SERVICE | {"Content-Type": "application/x-ndjson"}
    upload = json.dumps({"email": f"i{EMAIL}", "name": NAME}) + f"\n{EMAIL} {NAME}\n"
    job = call("POST", f"/users/import{query}", content=upload.encode(), headers=lines)
    call("POST", "/users/import", content=upload.encode(), headers=SERVICE)
    progress = job.headers["Location"]
    eventually(lambda: call("GET", progress, headers=SERVICE).json()["state"] == "succeeded")
    call("DELETE", progress, headers=SERVICE)
    call("GET", f"/users/export{query}", headers=SERVICE)
    drive_standing(call, path, query, bearer)
    drive_services(call, query)
    call("DELETE", path, headers=SERVICE)
    call("DELETE", path, headers=SERVICE)
    call("DELETE", f"{path}?erase=now", headers=SERVICE)
    for probe in ("/", "/health", "/ready", "/metrics", "/version", "/openapi.json"):
        call("GET", f"{probe}{query}")
    for name in ("jwks.json", "openid-configuration", "oauth-authorization-server"):
        call("GET", f"/.well-known/{name}{query}")
    for page in ("/docs", "/account"):
        call("GET", f"{page}{query}")
        call("GET", f"{page}/{query}")
        call("GET", f"{page}/{EMAIL}")
    call("GET", f"/problems/{EMAIL}{query}")
    call("GET", f"/{quote(NAME)}/{EMAIL}{query}")
    call("PUT", f"/users{query}", json=body)
    call("POST", "/users", json={"email": EMAIL * 4000, "name": NAME})
    fail_inside(url, lambda: call("POST", "/users", json=body | {"email": f"x{EMAIL}"}))
    return set(answers)


def drive_services(call, query):
    """Call the routes that services alone need, with success and without."""
    new = {"name": f"{NAME} <{EMAIL}>", "scopes": ["users:read"]}
    made = call("POST", f"/api-keys{query}", json=new, headers=SERVICE).json()
    call("POST", "/api-keys", json=new | {EMAIL: NAME}, headers=SERVICE)
    call("GET", f"/api-keys{query}", headers={"X-API-Key": made["key"]})
    call("GET", f"/api-keys{query}", headers=SERVICE)
    call("DELETE", f"/api-keys/{made['id']}", headers=SERVICE)
    call("DELETE", f"/api-keys/{quote(NAME)}", headers=SERVICE)
    for token in (EMAIL, NAME, made["key"]):
        call("POST", f"/auth/introspect{query}", data={"token": token}, headers=SERVICE)
    for filters in ("", f"?target={quote(EMAIL)}", f"?action={quote(NAME)}"):
        call("GET", f"/audit{filters}", headers=SERVICE)


def drive_email(call, path, bearer):
    """Call the routes of addresses, with success and without."""
    wish = {"email": OTHER, "current_password": PASSWORD}
    call("PATCH", path, json={"email": EMAIL}, headers=bearer)
    call("POST", f"{path}/email", json=wish | {"current_password": NAME}, headers=bearer)
    call("POST", f"{path}/email", json=wish, headers=bearer)
    call("POST", f"{path}/email/verification", headers=bearer)
    for token in (EMAIL, f"change.{NOBODY[7:]}.1.{NAME}"):
        call("POST", "/auth/email/confirm", json={"token": token}, headers=bearer)


def drive_standing(call, path, query, bearer):
    """Call the routes about standing and about a person's data."""
    call("GET", f"{path}/account{query}", headers=bearer)
    call("GET", f"{path}/export{query}", headers=bearer)
    call("PUT", f"{path}/roles{query}", json={"roles": [EMAIL, NAME]}, headers=SERVICE)
    call("PUT", f"{path}/roles{query}", json={"roles": ["a"]}, headers=SERVICE)
    promotion = {"current_password": PASSWORD}
    call("PUT", f"{path}/superuser{query}", json=promotion, headers=bearer)
    call("DELETE", f"{path}/superuser{query}", headers=bearer)
    suspension = {"reason": f"{NAME} {EMAIL}"}
    call("PUT", f"{path}/suspension{query}", json={"reason": [EMAIL]}, headers=SERVICE)
    call("PUT", f"{path}/suspension{query}", json=suspension, headers=SERVICE)
    call("GET", f"{path}/account{query}", headers=SERVICE)
    call("GET", f"{path}/export{query}", headers=SERVICE)
    call("DELETE", f"{path}/suspension{query}", headers=SERVICE)
    call("DELETE", f"{path}{query}&erase={quote(EMAIL)}", headers=SERVICE)


def change_password(call, path, bearer):
    """Ask for new passwords in all ways, with success and without."""
    wrong = {"current_password": EMAIL, "new_password": PASSWORD}
    call("PUT", f"{path}/password", json=wrong, headers=bearer)
    change = {"current_password": PASSWORD, "new_password": f"{PASSWORD} more"}
    call("PUT", f"{path}/password", json=change, headers=bearer)
    for each in (OTHER, EMAIL, NAME):
        call("POST", "/auth/password/forgot", json={"email": each})
        call("POST", "/auth/password/reset", json={"token": each, "new_password": PASSWORD})
    call("POST", f"{path}/recovery", headers=SERVICE)


def fail_inside(url, call):
    """Call while the database refuses the row for a reason that the service does not know."""
    with closing(psycopg2.connect(url.replace("+psycopg2", ""))) as connection:
        connection.autocommit = True
        cursor = connection.cursor()
        cursor.execute("ALTER TABLE users ADD CONSTRAINT nobody CHECK (name = 'x') NOT VALID")
        try:
            call()
        finally:
            cursor.execute("ALTER TABLE users DROP CONSTRAINT nobody")


def shapes(text: str) -> set[str]:
    """Return the ways in which a text may be written; all in lower case."""
    return {
        each.lower()
        for each in (text, quote(text), quote(text, safe=""), text.replace(" ", "+"), repr(text))
    }


def everything(
    service: Service, worker: Worker, telemetry: Collector, scraped: str
) -> dict[str, str]:
    """Return all that was told about the requests, in lower case."""
    told = {
        "logs": service.output + service.errors + worker.output,
        "spans": repr(telemetry.spans),
        "metrics": scraped + "".join(str(metric.data) for metric in telemetry.metrics),
    }
    return {name: text.lower() for name, text in told.items()}


def has_arrived(telemetry: Collector) -> bool:
    """Tell whether spans of the last call, which fails, and of the worker are there."""
    statuses = {span.attributes.get("http.response.status_code") for span in telemetry.spans}
    names = {span.name for span in telemetry.spans}
    return 500 in statuses and {"import_users", "send_welcome_email"} <= names


def routes() -> MapAdapter:
    """Return what finds the route of a request."""
    return create_app(AppConfig(redis_url="")).url_map.bind("localhost")


def driven(answers: set[tuple[str, int]]) -> set[tuple[str, str]]:
    """Return the routes, each with its method, that calls have reached."""
    reached, known = set(), routes()
    for method, path in (answer.split(" ", 1) for answer, _ in answers):
        with suppress(HTTPException):  # there is no such route
            reached.add((method, str(known.match(path, method, return_rule=True)[0])))
    return reached


def test_addresses_and_names_are_in_no_telemetry(
    service, worker, provider, telemetry, postgresql_url
):
    answers = drive(service, postgresql_url)
    eventually(lambda: provider.attempts)
    scraped = service.client.get("/metrics").text
    # The ends of the processes have a deadline, beyond which spans are lost.
    assert telemetry.wait_for(lambda: has_arrived(telemetry))
    service.stop()
    worker.stop()

    statuses = {status for _, status in answers}
    assert {200, 201, 204, 400, 401, 404, 405, 409, 412, 413, 422, 500} <= statuses
    assert len(telemetry.spans) > 80
    assert driven(answers) == {
        (method, rule.rule)
        for rule in routes().map.iter_rules()
        for method in rule.methods or ()
        if method not in {"HEAD", "OPTIONS"}
    }
    told = everything(service, worker, telemetry, scraped)
    assert ("acme" in told["logs"]) == service.output.startswith("{")  # text has no fields
    secrets = shapes(EMAIL) | shapes(NAME) | shapes(OTHER) | shapes("Quuxley") | {PASSWORD}
    found = {(kind, secret) for kind, text in told.items() for secret in secrets if secret in text}
    assert found == set()


def test_addresses_are_in_spans_when_the_operator_wants_them(serve, telemetry):
    service = serve(TELEMETRY_PII="true", **telemetry.variables)

    service.client.post("/users", json={"email": EMAIL, "name": NAME})
    assert telemetry.wait_for(lambda: bool(telemetry.named("POST /users")))
    service.stop()

    [record] = telemetry.named("create_user_record")
    assert record.attributes["user.email"] == EMAIL
    assert NAME not in repr(telemetry.spans)
    assert EMAIL not in service.output
