"""HEAD and OPTIONS of every address, and the types that it takes."""

from __future__ import annotations

import re

import pytest

from tests.support.factories import ADA, make_user

NOBODY = "01890a5d-ac96-774b-bcce-b302099a8057"
PATCHES = "application/merge-patch+json, application/json"


@pytest.fixture
def database_url(sqlite_url):
    """The database makes no difference here."""
    return sqlite_url


def addresses(app):
    """Return address -> the methods of all its routes."""
    found: dict[str, set[str]] = {}
    for rule in app.url_map.iter_rules():
        path = re.sub("<uuid:[^>]+>", NOBODY, rule.rule)
        path = re.sub("<hex:[^>]+>", NOBODY.replace("-", ""), path)
        path = path.replace("<asset>", "start.js").replace("<name>", "not-found")
        found.setdefault(path, set()).update(rule.methods)
    return found


def test_every_address_names_its_methods(app):
    client = app.test_client()

    for path, methods in addresses(app).items():
        response = client.options(path)

        assert response.status_code == 204, path
        assert response.data == b""
        assert "Content-Type" not in response.headers
        assert response.headers["Allow"].split(", ") == sorted(methods)


def test_every_other_method_is_refused_with_the_same_names(app):
    client = app.test_client()

    for path, methods in addresses(app).items():
        for method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE"} - methods:
            response = client.open(path, method=method)

            assert response.status_code == 405, (method, path)
            assert set(response.headers["Allow"].split(", ")) == methods


def test_head_is_get_without_a_body_at_every_address(app, database, service_client):
    user = make_user(database)

    for path, methods in addresses(app).items():
        if "GET" not in methods:
            continue
        known = path.replace(NOBODY, str(user.id))
        read, head = service_client.get(known), service_client.head(known)

        assert head.status_code == read.status_code, path
        assert head.data == b""
        for name in ("Content-Type", "ETag", "Last-Modified", "Cache-Control", "Link"):
            assert head.headers.get(name) == read.headers.get(name), (path, name)


def test_an_address_that_can_be_patched_says_with_which_types(service_client, database):
    address = f"/users/{make_user(database).id}"

    asked = service_client.options(address)
    refused = service_client.patch(address, data="<name/>", content_type="text/xml")

    assert asked.headers["Accept-Patch"] == PATCHES
    assert refused.status_code == 415
    assert refused.headers["Accept-Patch"] == PATCHES
    assert "Accept" not in refused.headers


@pytest.mark.parametrize(
    ("path", "types"),
    [("/users", "application/json"), ("/users/import", "application/x-ndjson, text/csv")],
)
def test_a_type_that_is_not_taken_is_refused_with_those_that_are(service_client, path, types):
    refused = service_client.post(path, data=str(ADA), content_type="text/plain")

    assert refused.status_code == 415
    assert refused.headers["Accept"] == types
    assert "Accept-Patch" not in service_client.options(path).headers


def test_an_unknown_address_has_no_methods(app):
    assert app.test_client().options("/unknown").status_code == 404


def test_a_star_stands_for_all_addresses(app):
    client = app.test_client()
    methods = set().union(*addresses(app).values())

    # As the server hands `OPTIONS *` on.
    response = client.options("/", environ_overrides={"PATH_INFO": "*"})

    assert (response.status_code, response.data) == (204, b"")
    assert response.headers["Allow"].split(", ") == sorted(methods)
    assert "X-Request-ID" in response.headers
    assert client.options("/*").status_code == 404
