"""An API key is in no log line, span or metric, and its id is, so that its use can be seen."""

from __future__ import annotations

import json

import pytest

from tests.conftest import API_KEY
from tests.support.collector import collector as run_collector
from tests.support.keys import secret_of
from tests.support.waiting import eventually

CAPTURE = "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER"
SERVICE = {"X-API-Key": API_KEY}
BODY = {"name": "billing", "scopes": ["users:read", "keys:manage"]}


@pytest.fixture
def telemetry():
    with run_collector() as running:
        yield running


@pytest.fixture(params=["json", "text"])
def service(request, serve, telemetry, postgresql_url):
    """The service, as talkative as it gets."""
    return serve(
        DATABASE_URL=postgresql_url,
        LOG_LEVEL="DEBUG",
        LOG_FORMAT=request.param,
        **{f"{CAPTURE}_REQUEST": ".*", f"{CAPTURE}_RESPONSE": ".*"},
        **telemetry.variables,
    )


def drive(client, key):
    """Use a key in all ways that come to mind, with success and without."""
    own = {"X-API-Key": key["key"]}
    wrong = {"X-API-Key": key["key"][:-1] + ("a" if key["key"][-1] != "a" else "b")}
    for headers in (own, own, wrong, {"Authorization": f"Bearer {key['key']}"}):
        client.get("/users", headers=headers)
        client.get("/users/export", headers=headers)
        client.post("/api-keys", json=BODY, headers=headers)
    client.post("/api-keys", json=BODY | {key["key"]: 1}, headers=own)
    client.get("/api-keys", headers=own)
    client.delete(f"/api-keys/{key['key']}", headers=own)
    client.delete(f"/api-keys/{key['id']}", headers=own)
    client.get("/users", headers=own)


def test_a_key_is_nowhere_and_its_id_is_where_it_was_used(service, telemetry):
    key = service.client.post("/api-keys", json=BODY, headers=SERVICE).json()
    drive(service.client, key)
    scraped = service.client.get("/metrics").text
    eventually(lambda: "DELETE /api-keys/<hex:key_id>" in {span.name for span in telemetry.spans})
    service.stop()

    told = {
        "logs": service.output + service.errors,
        "metrics": scraped,
        "spans": repr(telemetry.spans),
    }
    secret = secret_of(key["key"])
    found = {kind for kind, text in told.items() if secret[:-1] in text or API_KEY in text}
    assert found == set()
    assert f'api_key_requests_total{{key_id="{key["id"]}"}} 9.0' in scraped
    assert 'api_key_requests_total{key_id="other"} 0.0' in scraped
    assert "X-API-Key" not in told["spans"]
    assert "[REDACTED]" in told["spans"]


def test_the_lines_of_a_request_name_the_key_that_came_with_it(serve, postgresql_url):
    service = serve(DATABASE_URL=postgresql_url)
    key = service.client.post("/api-keys", json=BODY, headers=SERVICE).json()
    own = {"X-API-Key": key["key"]}

    for headers in (own, {}):
        service.client.get("/users", headers=headers)
    service.client.delete(f"/api-keys/{key['id']}", headers=SERVICE)
    service.stop()

    lines = [json.loads(line) for line in service.output.splitlines()]
    named = [
        (each["message"], each.get("route"), each.get("key_id"))
        for each in lines
        if each["message"] in {"Request answered", "API key created", "API key revoked"}
        and each.get("route") != "/ready"
    ]
    assert named == [
        ("API key created", None, key["id"]),
        ("Request answered", "/api-keys", "environment"),
        ("Request answered", "/users", key["id"]),
        ("Request answered", "/users", None),
        ("API key revoked", None, key["id"]),
        ("Request answered", "/api-keys/<hex:key_id>", "environment"),
    ]
