"""Behind a prefix: each address that the service gives can be followed by whoever got it."""

from __future__ import annotations

import re
from dataclasses import replace
from urllib.parse import urljoin

import pytest

from tests.conftest import API_KEY, Client, make_app
from tests.support.factories import ADA, in_order, make_user

PREFIX = "/svc"
KEY = {"X-API-Key": API_KEY}


@pytest.fixture
def proxied(config, services):
    """Call that asks as a proxy does that removes a prefix; only addresses below it reach us."""
    app = make_app(replace(config, trusted_proxy_hops=1), services)
    app.test_client_class = Client
    client = app.test_client()

    def ask(address, *, method="GET", **options):
        assert address.startswith(f"{PREFIX}/"), address
        headers = {"X-Forwarded-Prefix": PREFIX, **KEY, **options.pop("headers", {})}
        path = address.removeprefix(PREFIX)
        return client.open(path, method=method, headers=headers, **options)

    return ask


def test_a_created_user_is_found_at_its_location(proxied):
    created = proxied("/svc/users", method="POST", json=ADA)

    assert proxied(created.headers["Location"]).json == created.json


def test_the_next_page_is_found_at_its_link(proxied, database):
    users = in_order(make_user(database) for _ in range(2))

    first = proxied("/svc/users?page_size=1")
    (link,) = re.findall(r"<(.*)>", first.headers["Link"])

    assert [each["id"] for each in proxied(link).json["items"]] == [str(users[1].id)]


def test_an_import_is_found_at_its_location(proxied):
    started = proxied(
        "/svc/users/import", method="POST", data=b"", content_type="application/x-ndjson"
    )

    assert proxied(started.headers["Location"]).json["id"] == started.json["id"]


@pytest.mark.parametrize(
    ("typed", "page"), [("/", "/docs"), ("/docs/", "/docs"), ("/account/", "/account")]
)
def test_addresses_that_people_type_lead_to_the_page_wherever_it_is(proxied, client, typed, page):
    below, alone = proxied(f"/svc{typed}"), client.get(typed)

    assert [below.status_code, alone.status_code] == [302, 302]
    assert [each.headers["Location"] for each in (below, alone)] == [f"/svc{page}", page]
    assert proxied(below.headers["Location"]).mimetype == "text/html"


def test_the_description_below_a_prefix_has_an_etag_of_its_own(proxied, client):
    below = proxied("/svc/openapi.json")

    known = proxied("/svc/openapi.json", headers={"If-None-Match": below.headers["ETag"]})

    assert known.status_code == 304
    assert below.headers["ETag"] != client.get("/openapi.json").headers["ETag"]


@pytest.mark.parametrize("page", ["/svc/docs", "/docs"])
def test_the_page_finds_its_files_and_the_description_wherever_it_is(proxied, client, page):
    ask = proxied if page.startswith(PREFIX) else client.get
    start = ask(urljoin(page, "docs/start.js")).text
    (description,) = re.findall(r'url: "([^"]+)"', start)

    assets = re.findall(r'(?:href|src)="([^"]+)"', ask(page).text)

    assert len(assets) > 3
    assert {ask(urljoin(page, each)).status_code for each in [*assets, description]} == {200}


def test_the_description_says_where_the_service_is_mounted(proxied, client):
    below, alone = proxied("/svc/openapi.json").json, client.get("/openapi.json").json

    assert [below["servers"], alone["servers"]] == [[{"url": "/svc"}], [{"url": "/"}]]
    flow = below["components"]["securitySchemes"]["oauth2"]["flows"]["password"]
    assert flow["tokenUrl"] == "/svc/auth/token"
    assert below["paths"] == alone["paths"]


def test_a_prefix_that_nobody_trusted_has_sent_changes_nothing(client):
    created = client.post("/users", json=ADA, headers={"X-Forwarded-Prefix": PREFIX})

    assert created.headers["Location"].startswith("/users/")
