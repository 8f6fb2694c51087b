from __future__ import annotations

import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from urllib.parse import urljoin

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from openapi_spec_validator import OpenAPIV31SpecValidator
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import (
    negative_data_rejection,
    positive_data_acceptance,
)

from app import create_app
from bootstrap import open_backing_services
from chassis.http.admission import OVERLOADED
from chassis.http.headers import SAFE_HEADERS
from config import AppConfig
from tests.conftest import API_KEY, make_app
from tests.support import processes
from tests.support.factories import make_user
from tests.support.routes import UNDESCRIBED
from userservice.scopes import MEANINGS

# The format "email" allows more than the library accepts, such as reserved domains.
WORD = st.from_regex(r"[a-z0-9]{1,20}", fullmatch=True)
schemathesis.serializer.alias("application/x-ndjson", "text/plain")
schemathesis.openapi.format("email", st.builds("{}@{}.example.com".format, WORD, WORD))


class Relay:
    """The application of the test that runs; Schemathesis asks for one before there is any."""

    def __init__(self):
        self.app = create_app(AppConfig(redis_url=""))

    def __call__(self, environ, start_response):
        return self.app(environ, start_response)


relay = Relay()
contract = schemathesis.openapi.from_wsgi("/openapi.json", relay, config=SchemathesisConfig())
contract.config.generation.update(with_security_parameters=False)  # the key is given below
# A text that is longer than allowed may be longer than any body may be.
negative = contract.config.checks.negative_data_rejection
negative.expected_statuses = [*negative.expected_statuses, "413"]


@pytest.fixture
def app_on_sqlite(sqlite_url):
    """The application that the description is held against."""
    config = AppConfig(
        database_url=sqlite_url,
        redis_url="",
        api_key=API_KEY,
        web_threads=256,  # Schemathesis closes no streams, so each keeps its slot
        transfers=256,
    )
    services = open_backing_services(config)
    relay.app = create_app(config, services)
    yield relay.app
    services.close()


@contract.parametrize()
@settings(max_examples=15, suppress_health_check=list(HealthCheck))
@pytest.mark.usefixtures("app_on_sqlite")
def test_every_answer_is_as_described(case):
    # No schema can say that a token is one of ours, that a password is hard to guess, that a key
    # was not used for another body, or that a form names nothing twice; credentials of nobody
    # are refused as RFC 6749 has it, with 400.
    is_beyond_schemas = (
        "page_token" in (case.query or {})
        or "password" in (case.body if isinstance(case.body, dict) else {})
        or "Idempotency-Key" in (case.headers or {})
        or case.path.startswith("/auth/")
    )
    excluded = [positive_data_acceptance] if is_beyond_schemas else []
    if case.path == "/users/import":
        excluded.append(negative_data_rejection)  # any bytes are taken, and refused line by line

    case.call_and_validate(headers={"X-API-Key": API_KEY}, excluded_checks=excluded)


def test_the_description_is_a_valid_openapi_3_1_document(client):
    response = client.get("/openapi.json")

    assert response.status_code == 200
    assert response.mimetype == "application/json"
    assert response.json["openapi"].startswith("3.1.")
    OpenAPIV31SpecValidator(response.json).validate()  # raises what is wrong


def test_every_route_of_the_api_is_described(app, client):
    rules = {rule.rule for rule in app.url_map.iter_rules()} - set(UNDESCRIBED)

    paths = client.get("/openapi.json").json["paths"]

    assert set(paths) == {re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule) for rule in rules}


def test_the_description_names_who_may_call_what(client):
    paths = client.get("/openapi.json").json["paths"]

    assert paths["/users"]["post"]["security"] == [{}, {"apiKey": ["users:write"]}, {"oauth2": []}]
    assert paths["/users"]["get"]["security"] == [{"apiKey": ["users:read"]}, {"oauth2": []}]
    assert paths["/users/me"]["get"]["security"] == [{"oauth2": []}]
    assert paths["/auth/token"]["post"]["security"] == []
    assert "401" not in paths["/auth/token"]["post"]["responses"]
    assert "401" in paths["/users"]["get"]["responses"]


def test_who_may_register_is_described_as_it_is_configured(config, services):
    closed = make_app(replace(config, registration="authenticated"), services).test_client()

    paths = closed.get("/openapi.json").json["paths"]

    assert paths["/users"]["post"]["security"] == [{"apiKey": ["users:write"]}, {"oauth2": []}]


def test_the_scopes_of_api_keys_are_described(client):
    description = client.get("/openapi.json").json

    scheme = description["components"]["securitySchemes"]["apiKey"]["description"]
    change = description["paths"]["/users/{user_id}"]["patch"]["description"]
    assert all(f"- `{name}`: {meaning}" in scheme for name, meaning in MEANINGS.items())
    assert change.endswith(
        "An API key needs the scope `users:write`, for `email` also `users:admin`."
    )
    for path in description["paths"].values():
        for operation in path.values():
            keys = [each["apiKey"] for each in operation["security"] if "apiKey" in each]
            assert ("An API key needs" in operation["description"]) == bool(keys)
            assert all(scope in MEANINGS for scopes in keys for scope in scopes)


def test_every_group_of_operations_is_described(client):
    description = client.get("/openapi.json").json

    used = {
        tag
        for path in description["paths"].values()
        for each in path.values()
        for tag in each["tags"]
    }
    assert {each["name"] for each in description["tags"]} == used
    assert all(each["description"].endswith(".") for each in description["tags"])
    assert description["info"]["contact"]["name"]


# Headers of every answer, of HTTP itself, or of caches and browsers.
OF_ALL = {"Content-Type", "Content-Length", "Cache-Control", "Pragma", *SAFE_HEADERS, "Allow"}


def described_headers(description, method, path, status):
    answer = description["paths"][path][method.lower()]["responses"][str(status)]
    for each in answer["headers"].values():
        (name,) = re.findall("^#/components/headers/(.+)$", each["$ref"])
        assert name in description["components"]["headers"]
    return set(answer["headers"])


def answers(caller, user, limited):
    """Yield method, described path, answer, one for each kind of header."""
    address, ada = f"/users/{user.id}", {"email": "ada@example.com", "name": "Ada"}
    keyed = {"Idempotency-Key": "a"}
    one = "/users/{user_id}"
    for _ in range(2):  # the second one is a repetition
        yield "POST", "/users", caller.post("/users", json=ada, headers=keyed)
    yield "GET", "/users", caller.get("/users?page_size=1")
    yield "GET", one, caller.get(address)
    yield "GET", one, caller.get(address, headers={"If-None-Match": "*"})
    yield "GET", one, caller.get(address, headers={"If-Match": '"9"'})
    yield "PATCH", one, caller.patch(address, json={"name": "A"})
    yield "PATCH", one, caller.patch(address, data="x", content_type="text/plain")
    yield "POST", "/users", caller.post("/users", data="x", content_type="text/plain")
    yield "POST", "/users", caller.post("/users", json=ada, headers={"Content-Encoding": "gzip"})
    yield "GET", "/users", caller.get("/users", headers={"X-API-Key": "wrong"})
    yield "GET", "/users/export", caller.get("/users/export")
    yield "POST", "/users/import", caller.post("/users/import", data=b"", content_type="text/csv")
    yield "GET", "/health", caller.get("/health")
    yield "GET", "/users", caller.get("/users", environ_overrides={OVERLOADED: True})
    for _ in range(2):
        yield "POST", "/users", limited.post("/users", json={})
    yield "POST", "/auth/token", limited.post("/auth/token", data={"grant_type": "password"})


def test_every_header_that_is_sent_is_described(config, services, service_client, database):
    limits = {"rate_limit_enabled": True, "rate_limit_registration": "1/minute"}
    limited = make_app(replace(config, **limits), services).test_client()
    description = service_client.get("/openapi.json").json
    seen = set()

    for method, path, answer in answers(service_client, make_user(database), limited):
        sent = set(answer.headers.keys()) - OF_ALL
        described = described_headers(description, method, path, answer.status_code)
        assert sent <= described, (method, path, answer.status_code)
        seen |= sent

    assert seen == set(description["components"]["headers"])


def test_an_error_at_the_token_endpoints_is_described_with_the_members_of_oauth(client):
    description = client.get("/openapi.json").json
    refused = client.post("/auth/token", data={}).json

    answer = description["paths"]["/auth/token"]["post"]["responses"]["400"]

    assert answer["content"]["application/problem+json"]["schema"] == {
        "$ref": "#/components/schemas/OAuthProblem"
    }
    members = description["components"]["schemas"]["OAuthProblem"]["properties"]
    assert set(members) == set(refused)


def test_every_failure_is_described_as_a_problem(client):
    responses = [
        (status, response)
        for path in client.get("/openapi.json").json["paths"].values()
        for each in path.values()
        for status, response in each["responses"].items()
        if each["tags"] != ["probes"] and int(status) >= 400
    ]

    assert responses
    assert {tuple(response["content"]) for _, response in responses} == {
        ("application/problem+json",)
    }


def test_every_text_that_callers_send_has_a_greatest_length(client):
    document = client.get("/openapi.json").json
    bodies, texts = set(), []
    for operation in (each for path in document["paths"].values() for each in path.values()):
        texts += [each["schema"] for each in operation["parameters"] if each["in"] == "query"]
        for content in operation.get("requestBody", {}).get("content", {}).values():
            bodies |= {content["schema"].get("$ref", "").rpartition("/")[2]} - {""}
    for body in bodies:
        texts += document["components"]["schemas"][body]["properties"].values()
    alternatives = [kind for each in texts for kind in each.get("anyOf", [each])]
    free = [each for each in alternatives if each.get("type") == "string" and "enum" not in each]

    assert len(bodies) >= 4
    assert len(free) >= 12
    assert [each for each in free if "maxLength" not in each and "const" not in each] == []


def test_the_description_is_read_again_only_when_it_has_changed(client):
    first = client.get("/openapi.json")
    etag = first.headers["ETag"]

    again = client.get("/openapi.json", headers={"If-None-Match": etag})
    other = client.get("/openapi.json", headers={"If-None-Match": '"other"'})

    assert first.headers["Cache-Control"] == "public, no-cache"
    assert (again.status_code, again.data, again.headers["ETag"]) == (304, b"", etag)
    assert (other.status_code, other.data) == (200, first.data)


def test_all_processes_describe_the_api_in_the_same_words():
    script = (
        "import sys; from app import create_app; from config import AppConfig;"
        "print(create_app(AppConfig(redis_url='')).test_client().get('/openapi.json').headers['ETag'])"
    )

    etags = {
        processes.run(sys.executable, "-c", script, variables={"PYTHONHASHSEED": seed}).stdout
        for seed in "123"
    }

    assert len(etags) == 1
    assert etags != {""}


class Addresses(HTMLParser):
    """Every address that a page makes a browser fetch."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, _tag, attrs):
        self.found += [value for name, value in attrs if name in {"src", "href"}]


def test_the_documentation_page_and_all_it_loads_come_from_this_service(client):
    page = client.get("/docs")
    addresses = Addresses()
    addresses.feed(page.text)

    resolved = [urljoin("/docs", address) for address in addresses.found]
    assets = {address: client.get(address, buffered=True) for address in resolved}

    assert page.mimetype == "text/html"
    assert assets
    assert all(address.startswith("/docs/") for address in assets)
    assert {asset.status_code for asset in assets.values()} == {200}
    assert "://" not in page.text
    assert 'url: "openapi.json"' in assets["/docs/start.js"].text


def test_the_documentation_page_may_load_nothing_from_elsewhere(client):
    policy = client.get("/docs").headers["Content-Security-Policy"]

    directives = dict(each.split(maxsplit=1) for each in policy.split("; "))
    sources = {source for value in directives.values() for source in value.split()}

    assert directives["default-src"] == "'none'"
    assert directives["script-src"] == "'self'"
    assert sources <= {"'none'", "'self'", "'unsafe-inline'", "data:"}


@pytest.mark.parametrize("name", ["..%2fsetup.py", "%00", "a" * 5000, "missing.js", "%2e%2e"])
def test_a_file_that_is_no_part_of_the_documentation_is_not_found(client, name):
    response = client.get(f"/docs/{name}")

    assert response.status_code == 404
    assert response.content_type == "application/problem+json"
