from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any
from uuid import UUID

import pytest

from app import create_app
from bootstrap import open_backing_services
from config import AppConfig
from tests.conftest import API_KEY
from tests.support.factories import ADA, make_user
from tests.support.ports import free_port
from userservice.users import queries

PROBLEM = {
    "type", "title", "status", "detail", "instance",
    "error", "code", "errors", "request_id", "trace_id",
}  # fmt: skip
MERGE_PATCH = "application/merge-patch+json"
NOBODY = "0190a6e4-5b1c-7d3e-8f00-123456789abc"  # an id that is well-formed and nobody's


@pytest.fixture
def ada(client):
    """The answer to the registration of a user."""
    return client.post("/users", json=ADA)


@pytest.fixture
def address(ada):
    """Path of that user."""
    return ada.headers["Location"]


def assert_problem(response, status, code, detail=None):
    """Check that a response is a problem document, complete and like its status line."""
    assert response.status_code == status
    assert response.content_type == "application/problem+json"
    problem = response.json
    assert set(problem) == PROBLEM
    assert problem["status"] == status
    assert problem["code"] == code
    assert problem["type"] == "/problems/" + code.replace("_", "-")
    assert problem["error"] == problem["detail"] == (detail or problem["detail"])
    assert problem["detail"]
    assert problem["title"]
    assert problem["instance"] == response.request.path
    assert problem["request_id"] == response.headers["X-Request-ID"]
    assert re.fullmatch("[0-9a-f]{32}", problem["trace_id"])


def statuses_of(answers):
    return {case: response.status_code for case, response in answers.items()}


def pointers(response):
    """Return the members that a problem document complains about."""
    return [each["pointer"] for each in response.json["errors"]]


# Registering a user


def test_a_new_user_is_answered_with_exactly_these_members(client):
    before = datetime.now(UTC)

    response = client.post("/users", json=ADA)

    assert response.status_code == 201
    assert response.content_type == "application/json"
    assert set(response.json) == {"id", "email", "name", "created_at", "status"}
    assert response.json["email"] == ADA["email"]
    assert response.json["name"] == ADA["name"]
    assert response.json["status"] == "active"
    assert UUID(response.json["id"]).version == 7
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", response.json["created_at"])
    assert before <= datetime.fromisoformat(response.json["created_at"]) <= datetime.now(UTC)


def test_version_and_time_of_a_new_user_travel_in_headers(ada):
    created_at = datetime.fromisoformat(ada.json["created_at"])

    assert ada.headers["ETag"] == '"1"'
    assert parsedate_to_datetime(ada.headers["Last-Modified"]) == created_at.replace(microsecond=0)
    assert ada.headers["Location"] == f"/users/{ada.json['id']}"
    assert ada.headers["Cache-Control"] == "private, no-cache"


def test_the_location_of_a_new_user_returns_the_same_bytes(service_client):
    created = service_client.post("/users", json=ADA)

    read = service_client.get(created.headers["Location"])

    assert read.data == created.data
    assert read.headers["ETag"] == created.headers["ETag"]
    assert read.headers["Last-Modified"] == created.headers["Last-Modified"]


@pytest.mark.parametrize("email", ["ADA@example.com", "Ada@EXAMPLE.com", "  ada@example.com\n"])
@pytest.mark.usefixtures("ada")
def test_an_address_can_be_registered_once_whatever_its_case(client, email):
    response = client.post("/users", json=ADA | {"email": email})

    assert_problem(response, 409, "email_taken", "User already exists")


def test_case_is_ignored_in_letters_beyond_ascii_too(client):
    client.post("/users", json=ADA | {"email": "Ärzte@example.com"})

    response = client.post("/users", json=ADA | {"email": "ÄRZTE@example.com"})

    assert_problem(response, 409, "email_taken", "User already exists")


def test_an_address_is_returned_as_it_was_given(client):
    response = client.post("/users", json=ADA | {"email": " Ada.Lovelace@Example.COM "})

    assert response.json["email"] == "Ada.Lovelace@Example.COM"


def test_unknown_members_of_a_new_user_are_ignored(client):
    response = client.post("/users", json=ADA | {"shoe_size": 38, "address": {"city": ["London"]}})

    assert response.status_code == 201
    assert set(response.json) == {"id", "email", "name", "created_at", "status"}


def test_a_caller_cannot_choose_what_the_service_decides(client, database):
    chosen = {
        "id": NOBODY,
        "created_at": "2001-01-01T00:00:00Z",
        "updated_at": "2001-01-01T00:00:00Z",
        "status": "deleted",
        "version": 7,
        "is_superuser": True,
        "password_hash": "known",
        "email_key": "someone@else.com",
    }

    response = client.post("/users", json=ADA | chosen)

    assert response.status_code == 201
    assert response.headers["ETag"] == '"1"'
    assert response.json["id"] != chosen["id"]
    assert response.json["status"] == "active"
    with database.connection() as connection:
        row = connection.execute(queries.users.select()).one()
    assert row.is_superuser is False
    assert row.password_hash is None
    assert row.email_key == ADA["email"]
    assert row.created_at.year > 2001


def test_a_password_is_neither_stored_nor_returned(client, database):
    response = client.post("/users", json=ADA | {"password": "correct horse battery"})

    with database.connection() as connection:
        row = connection.execute(queries.users.select()).one()
    assert row.password_hash.startswith("$argon2id$")
    assert "correct horse" not in row.password_hash
    assert b"correct horse" not in response.data


# Document, the detail of its refusal, the members that are named.
BROKEN_RULES: list[tuple[dict[str, Any], str, list[str]]] = [
    ({"name": "Ada"}, "Email is required", ["/email"]),
    ({"name": "Ada", "email": None}, "Email is required", ["/email"]),
    ({"name": "Ada", "email": ""}, "Email is required", ["/email"]),
    ({"name": "Ada", "email": " \t"}, "Email is required", ["/email"]),
    ({"email": "ada@example.com"}, "Name is required", ["/name"]),
    ({"email": "ada@example.com", "name": None}, "Name is required", ["/name"]),
    ({"email": "ada@example.com", "name": "   "}, "Name is required", ["/name"]),
    ({}, "Email is required", ["/email", "/name"]),
    (ADA | {"email": "ada"}, "Email must be a valid e-mail address", ["/email"]),
    (ADA | {"email": 7}, "Email must be a string", ["/email"]),
    (ADA | {"email": ["ada@example.com"]}, "Email must be a string", ["/email"]),
    (ADA | {"name": {"first": "Ada"}}, "Name must be a string", ["/name"]),
    (ADA | {"name": True}, "Name must be a string", ["/name"]),
    (ADA | {"name": "Ada\x00"}, "Name must not contain control characters", ["/name"]),
    (ADA | {"name": "a" * 201}, "Name must have at most 200 characters", ["/name"]),
    (ADA | {"password": "short"}, "Password must have at least 8 characters", ["/password"]),
    (ADA | {"password": 12345678}, "Password must be a string", ["/password"]),
    (ADA | {"source": ""}, "Source must have at least 1 characters", ["/source"]),
    (ADA | {"source": "web\n"}, "Source must not contain control characters", ["/source"]),
    (ADA | {"tier": "x" * 65}, "Tier must have at most 64 characters", ["/tier"]),
]


def test_a_user_that_breaks_a_rule_is_refused_by_name(client):
    for document, detail, members in BROKEN_RULES:
        response = client.post("/users", json=document)

        assert_problem(response, 400, "invalid_request", detail)
        assert pointers(response) == members


@pytest.mark.parametrize("body", ["null", "[]", '"ada"', "7", "true"])
def test_a_body_that_is_no_object_is_refused(client, body):
    response = client.post("/users", data=body, content_type="application/json")

    assert_problem(response, 400, "invalid_request", "The request body must be a JSON object")


@pytest.mark.parametrize("body", ["", "{", "{'email': 1}", '{"email": NaN}', "[" * 5000])
def test_a_body_that_is_no_json_is_refused(client, body):
    response = client.post("/users", data=body, content_type="application/json")

    assert_problem(response, 400, "invalid_request", "The request body is not valid JSON")


@pytest.mark.parametrize("content_type", [None, "", "text/plain", MERGE_PATCH, "application/xml"])
def test_a_new_user_of_another_content_type_is_refused(client, content_type):
    response = client.post("/users", data=b'{"email": "a@example.com"}', content_type=content_type)

    assert_problem(response, 415, "unsupported_media_type", "Content-Type must be application/json")


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "Application/JSON"])
def test_content_types_are_compared_without_case_and_parameters(client, content_type):
    body = b'{"email": "ada@example.com", "name": "Ada"}'

    response = client.post("/users", data=body, content_type=content_type)

    assert response.status_code == 201


def test_a_refused_user_leaves_no_row(client, database):
    client.post("/users", json=ADA | {"name": ""})
    client.post("/users", json=ADA | {"tier": ""})

    with database.connection() as connection:
        assert queries.count_users(connection) == {"active": 0, "suspended": 0, "deleted": 0}


def test_a_body_may_have_64_kib_and_no_more(client):
    head = b'{"email": "ada@example.com", "name": "Ada", "rest": "'
    fits = head + b"x" * (65536 - len(head) - 2) + b'"}'

    accepted = client.post("/users", data=fits, content_type="application/json")
    refused = client.post("/users", data=fits + b" ", content_type="application/json")

    assert accepted.status_code == 201
    assert_problem(refused, 413, "content_too_large", "The request body is too large")


# Reading a user


def test_a_user_is_read_with_its_headers(service_client, address):
    response = service_client.get(address)

    assert response.status_code == 200
    assert response.content_type == "application/json"
    assert response.headers["ETag"] == '"1"'
    assert response.headers["Cache-Control"] == "private, no-cache"


def test_head_has_the_headers_of_get_and_no_body(service_client, address):
    read = service_client.get(address)

    response = service_client.head(address)

    assert response.status_code == 200
    assert response.data == b""
    for name in ("ETag", "Last-Modified", "Content-Length", "Content-Type", "Cache-Control"):
        assert response.headers[name] == read.headers[name]


@pytest.mark.parametrize("known", ['"1"', 'W/"1"', '"7", "1"', "*"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_caller_that_knows_the_version_gets_no_body(service_client, address, method, known):
    response = service_client.open(address, method=method, headers={"If-None-Match": known})

    assert response.status_code == 304
    assert response.data == b""
    assert response.headers["ETag"] == '"1"'
    assert response.headers["Cache-Control"] == "private, no-cache"


OTHER_VERSIONS = ['"2"', '"11"', '""', "", "garbage", '"1', "\xff", ",,,"]


def test_a_caller_that_knows_another_version_gets_the_user(service_client, address):
    statuses = {
        known: service_client.get(address, headers={"If-None-Match": known}).status_code
        for known in OTHER_VERSIONS
    }

    assert statuses == dict.fromkeys(OTHER_VERSIONS, 200)


NOBODIES = [NOBODY, "1", "me!", "%00", "x" * 5000, "%ff", f"{NOBODY}0", "\u0661"]


@pytest.mark.parametrize("method", ["GET", "HEAD", "PATCH", "DELETE"])
def test_a_user_that_does_not_exist_is_not_found(service_client, method):
    body = {"json": {"name": "Ada"}} if method == "PATCH" else {}

    answers = {
        each: service_client.open(f"/users/{each}", method=method, **body) for each in NOBODIES
    }

    found = {name: (each.status_code, each.content_type) for name, each in answers.items()}
    assert found == dict.fromkeys(NOBODIES, (404, "application/problem+json"))


def test_a_missing_user_is_told_from_a_missing_page(service_client):
    missing_user = service_client.get(f"/users/{NOBODY}")
    missing_page = service_client.get("/users/ada")

    assert_problem(missing_user, 404, "user_not_found", "User not found")
    assert_problem(missing_page, 404, "not_found", "Not found")


# Changing a user


@pytest.mark.parametrize("content_type", [MERGE_PATCH, "application/json"])
def test_a_patch_changes_what_it_names_and_nothing_else(service_client, ada, address, content_type):
    response = service_client.patch(
        address, data=b'{"name": "Countess Lovelace"}', content_type=content_type
    )

    assert response.status_code == 200
    assert response.json == ada.json | {"name": "Countess Lovelace"}
    assert response.headers["ETag"] == '"2"'
    assert response.headers["Cache-Control"] == "private, no-cache"
    assert service_client.get(address).data == response.data


def test_a_patch_moves_the_time_of_the_last_change(service_client, database, address):
    with database.connection() as connection:
        an_hour_ago = datetime.now(UTC) - timedelta(hours=1)
        connection.execute(queries.users.update().values(updated_at=an_hour_ago))
    before = parsedate_to_datetime(service_client.get(address).headers["Last-Modified"])

    response = service_client.patch(address, json={"name": "Countess"})

    after = parsedate_to_datetime(response.headers["Last-Modified"])
    assert after - before > timedelta(minutes=59)


def test_a_patched_address_frees_the_old_one_and_takes_the_new_one(service_client, address):
    service_client.patch(address, json={"email": "Countess@example.com"})

    old = service_client.post("/users", json=ADA)
    new = service_client.post("/users", json=ADA | {"email": "countess@EXAMPLE.com"})

    assert old.status_code == 201
    assert_problem(new, 409, "email_taken", "User already exists")


def test_a_patch_may_change_the_case_of_its_own_address(service_client, address):
    response = service_client.patch(address, json={"email": "ADA@Example.com"})

    assert response.status_code == 200
    assert response.json["email"] == "ADA@Example.com"


def test_a_patch_cannot_take_the_address_of_another_user(service_client, database, address):
    make_user(database, email="grace@example.com")

    response = service_client.patch(address, json={"email": "Grace@example.com", "name": "Grace"})

    assert_problem(response, 409, "email_taken", "User already exists")
    assert service_client.get(address).json["name"] == ADA["name"]


def test_an_empty_patch_changes_nothing(service_client, ada, address):
    response = service_client.patch(address, json={})

    assert response.status_code == 200
    assert response.data == ada.data
    assert response.headers["ETag"] == ada.headers["ETag"]


# Patch, and detail and member of its refusal.
BROKEN_PATCHES: list[tuple[dict[str, Any], tuple[str, str]]] = [
    ({"name": None}, ("Name is required", "/name")),
    ({"email": None}, ("Email is required", "/email")),
    ({"name": ""}, ("Name is required", "/name")),
    ({"email": " "}, ("Email is required", "/email")),
    ({"email": "ada"}, ("Email must be a valid e-mail address", "/email")),
    ({"name": 7}, ("Name must be a string", "/name")),
    ({"id": NOBODY}, ("Id is unknown or cannot be changed", "/id")),
    ({"created_at": None}, ("Created at is unknown or cannot be changed", "/created_at")),
    ({"status": "deleted"}, ("Status is unknown or cannot be changed", "/status")),
    ({"password": "password1"}, ("Password is unknown or cannot be changed", "/password")),
    ({"is_superuser": True}, ("Is superuser is unknown or cannot be changed", "/is_superuser")),
    ({"a/b~c": 1}, ("A/b~c is unknown or cannot be changed", "/a~1b~0c")),
]


def test_a_patch_that_breaks_a_rule_changes_nothing(service_client, ada, address):
    for document, (detail, member) in BROKEN_PATCHES:
        response = service_client.patch(address, json=document)

        assert_problem(response, 400, "invalid_request", detail)
        assert pointers(response) == [member]
    assert service_client.get(address).data == ada.data


def test_a_patch_with_one_wrong_member_does_not_change_the_others(service_client, ada, address):
    response = service_client.patch(address, json={"name": "Countess", "nickname": "Al"})

    assert response.status_code == 400
    assert service_client.get(address).data == ada.data


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/json-patch+json"])
def test_a_patch_of_another_content_type_is_refused(service_client, address, content_type):
    response = service_client.patch(address, data=b'{"name": "x"}', content_type=content_type)

    assert_problem(
        response,
        415,
        "unsupported_media_type",
        "Content-Type must be application/merge-patch+json or application/json",
    )


# If-Match


@pytest.mark.parametrize("document", [{"name": "Countess"}, {}])
@pytest.mark.parametrize("condition", ['"1"', "*", '"9", "1"', 'W/"9", "1"', ' "1" '])
def test_a_patch_is_done_when_its_condition_holds(service_client, address, condition, document):
    response = service_client.patch(address, json=document, headers={"If-Match": condition})

    assert response.status_code == 200


STALE = [
    '"2"', 'W/"1"', '"01"', '"1.0"', '"-1"', '"+1"', '""', "", "garbage", '"2", "3"', "W/",
    '"' + "1" * 50 + '"', "\xb9", ",", '"\xff"', '"1',
]  # fmt: skip


@pytest.mark.parametrize("document", [{"name": "Countess"}, {}])
def test_a_patch_is_not_done_when_its_condition_fails(service_client, ada, address, document):
    answers = {
        each: service_client.patch(address, json=document, headers={"If-Match": each})
        for each in STALE
    }

    assert statuses_of(answers) == dict.fromkeys(STALE, 412)
    for response in answers.values():
        assert_problem(response, 412, "precondition_failed")
    assert service_client.get(address).data == ada.data


def test_a_deletion_is_not_done_when_its_condition_fails(service_client, address):
    answers = {each: service_client.delete(address, headers={"If-Match": each}) for each in STALE}

    assert statuses_of(answers) == dict.fromkeys(STALE, 412)
    for response in answers.values():
        assert_problem(response, 412, "precondition_failed")
    assert service_client.get(address).status_code == 200


def test_the_etag_that_a_patch_returns_is_good_for_the_next_one(service_client, address):
    first = service_client.patch(address, json={"name": "A"}, headers={"If-Match": '"1"'})

    second = service_client.patch(
        address, json={"name": "B"}, headers={"If-Match": first.headers["ETag"]}
    )
    stale = service_client.patch(address, json={"name": "C"}, headers={"If-Match": '"1"'})

    assert second.status_code == 200
    assert stale.status_code == 412


def test_a_condition_on_a_user_that_does_not_exist_is_not_found(service_client):
    response = service_client.patch(
        f"/users/{NOBODY}", json={"name": "A"}, headers={"If-Match": '"1"'}
    )

    assert_problem(response, 404, "user_not_found")


# Deleting a user


@pytest.mark.parametrize("condition", [None, '"1"', "*"])
def test_a_deleted_user_is_gone_for_every_call(service_client, address, condition):
    headers = {"If-Match": condition} if condition else {}

    deleted = service_client.delete(address, headers=headers)

    assert deleted.status_code == 204
    assert deleted.data == b""
    assert service_client.get(address).status_code == 404
    assert service_client.head(address).status_code == 404
    assert service_client.patch(address, json={"name": "A"}).status_code == 404
    assert service_client.patch(address, json={}).status_code == 404
    assert service_client.delete(address).status_code == 404
    assert service_client.delete(address, headers={"If-Match": '"2"'}).status_code == 404


def test_the_address_of_a_deleted_user_can_be_registered_again(service_client, ada, address):
    service_client.delete(address)

    again = service_client.post("/users", json=ADA)

    assert again.status_code == 201
    assert again.json["id"] != ada.json["id"]


def test_the_address_of_a_deleted_user_can_be_deleted_again(service_client):
    for _ in range(3):
        address = service_client.post("/users", json=ADA).headers["Location"]

        assert service_client.delete(address).status_code == 204

    assert len(service_client.get("/users?status=deleted").json["items"]) == 3


def test_deleted_users_are_listed_on_request_only(service_client, database, address):
    alive = make_user(database)
    service_client.delete(address)

    active = service_client.get("/users").json["items"]
    deleted = service_client.get("/users?status=deleted").json["items"]

    assert [each["id"] for each in active] == [str(alive.id)]
    assert [each["id"] for each in deleted] == [address.rpartition("/")[2]]
    assert deleted[0]["status"] == "deleted"


def test_deleting_a_user_forgets_the_password(service_client, database):
    created = service_client.post("/users", json=ADA | {"password": "correct horse battery"})

    service_client.delete(created.headers["Location"])

    with database.connection() as connection:
        assert connection.execute(queries.users.select()).one().password_hash is None


# Listing users


def test_a_list_of_nobody_is_empty(service_client):
    response = service_client.get("/users")

    assert response.status_code == 200
    assert response.json == {"items": [], "next_page_token": None}
    assert response.headers["Cache-Control"] == "private, no-cache"
    assert "Link" not in response.headers


def test_a_listed_user_reads_like_the_user_itself(service_client, ada):
    assert service_client.get("/users").json["items"] == [ada.json]


def test_pages_have_50_users_unless_told_otherwise(service_client, database):
    make_users(database, 51)

    page = service_client.get("/users").json

    assert len(page["items"]) == 50
    assert page["next_page_token"]


def test_pages_have_up_to_200_users(service_client, database):
    make_users(database, 201)

    page = service_client.get("/users?page_size=200").json
    rest = service_client.get(
        "/users", query_string={"page_size": 200, "page_token": page["next_page_token"]}
    ).json

    assert len(page["items"]) == 200
    assert len(rest["items"]) == 1
    assert rest["next_page_token"] is None


@pytest.mark.parametrize("size", ["201", "0", "-1", "abc", "", "1.5", "9" * 5000, "%00", "%ff"])
def test_a_page_size_out_of_range_is_refused(service_client, size):
    response = service_client.get(f"/users?page_size={size}")

    assert_problem(response, 400, "invalid_request")
    assert pointers(response) == ["/page_size"]


def test_users_are_listed_in_the_order_of_their_ids(service_client, database):
    make_users(database, 7)

    ids = [each["id"] for each in service_client.get("/users").json["items"]]

    assert ids == sorted(ids)


@pytest.mark.parametrize(("count", "pages"), [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3)])
def test_following_the_links_shows_every_user_once(service_client, database, count, pages):
    users = make_users(database, count)

    seen = list(follow(service_client, "/users?page_size=2"))

    assert len(seen) == pages
    assert [each["id"] for page in seen for each in page] == users


def test_users_registered_on_the_way_do_not_disturb_the_pages(service_client, database):
    users = make_users(database, 6)
    seen = []

    for page in follow(service_client, "/users?page_size=2"):
        seen += [each["id"] for each in page]
        if len(seen) <= 6:
            make_user(database)

    assert len(seen) == len(set(seen))
    assert seen[:6] == users


def test_a_user_deleted_on_the_way_does_not_hide_others(service_client, database):
    users = make_users(database, 5)
    first = service_client.get("/users?page_size=2")

    service_client.delete(f"/users/{users[1]}")

    rest = list(follow(service_client, next_link(first)))
    assert [each["id"] for page in rest for each in page] == users[2:]


def test_a_link_keeps_the_filters(service_client, database):
    for user in make_users(database, 3):
        service_client.delete(f"/users/{user}")

    seen = list(follow(service_client, "/users?status=deleted&page_size=1"))

    assert [len(page) for page in seen] == [1, 1, 1]
    assert {each["status"] for page in seen for each in page} == {"deleted"}


@pytest.mark.parametrize("email", ["ada@example.com", "ADA@Example.COM", " ada@example.com "])
def test_users_are_found_by_address_in_any_case(service_client, database, ada, email):
    make_user(database)

    response = service_client.get("/users", query_string={"email": email})

    assert response.json["items"] == [ada.json]


@pytest.mark.parametrize(
    "email", ["Ärzte@example.com", "äRZTE@EXAMPLE.com", "A\u0308rzte@example.com"]
)
def test_users_are_found_by_an_address_beyond_ascii(service_client, database, email):
    user = make_user(database, email="ärzte@example.com")
    make_user(database, email="arzte@example.com")

    response = service_client.get("/users", query_string={"email": email})

    assert [each["id"] for each in response.json["items"]] == [str(user.id)]


@pytest.mark.parametrize("email", ["ada", "%", "_da@example.com", "ada@example.co", "' OR 1=1 --"])
@pytest.mark.usefixtures("ada")
def test_the_address_to_find_is_no_pattern(service_client, email):
    response = service_client.get("/users", query_string={"email": email})

    assert response.json["items"] == []


@pytest.mark.parametrize("email", ["\x00", "ada\x00@example.com", "a" * 255])
def test_an_address_that_nobody_can_have_is_refused(service_client, email):
    response = service_client.get("/users", query_string={"email": email})

    assert_problem(response, 400, "invalid_request")
    assert pointers(response) == ["/email"]


@pytest.mark.parametrize("status", ["", "gone", "ACTIVE", "active,deleted"])
def test_a_status_that_does_not_exist_is_refused(service_client, status):
    response = service_client.get("/users", query_string={"status": status})

    detail = "Status must be 'active', 'suspended' or 'deleted'"
    assert_problem(response, 400, "invalid_request", detail)


def token_of_a_page(service_client, database, **query):
    """Return the token of the first page of a list that has a second."""
    make_users(database, 2)
    response = service_client.get("/users", query_string={"page_size": 1} | query)
    return response.json["next_page_token"]


def test_a_token_that_was_tampered_with_is_refused(service_client, database):
    token = token_of_a_page(service_client, database)
    flipped = ("A" if token[0] != "A" else "B") + token[1:]

    for forged in (flipped, token[:-1], token + "A", token[::-1], token.partition(".")[0]):
        response = service_client.get("/users", query_string={"page_token": forged})

        assert_problem(response, 400, "invalid_request", "Page token is not valid")


def test_a_token_of_any_length_is_refused(service_client):
    response = service_client.get(f"/users?page_token={'a' * 10000}")

    assert_problem(response, 400, "invalid_request", "Page token must have at most 1024 characters")


@pytest.mark.parametrize("token", ["", "x", ".", "%00", "%ff%fe", "é", "a" * 1024, "null", "1"])
def test_a_token_that_is_not_ours_is_refused(service_client, token):
    response = service_client.get(f"/users?page_token={token}")

    assert_problem(response, 400, "invalid_request", "Page token is not valid")


def test_a_token_of_another_service_is_refused(service_client, config, services, database):
    token = token_of_a_page(service_client, database)
    other = create_app(
        AppConfig(
            database_url=config.database_url,
            redis_url="",
            api_key=API_KEY,
            jwt_secret="another secret that signs page tokens",
        ),
        services,
    ).test_client()

    response = other.get(
        "/users", query_string={"page_token": token}, headers={"X-API-Key": API_KEY}
    )

    assert_problem(response, 400, "invalid_request", "Page token is not valid")


@pytest.mark.parametrize("query", [{"status": "deleted"}, {"email": "ada@example.com"}])
def test_a_token_of_another_list_is_refused(service_client, database, query):
    token = token_of_a_page(service_client, database)

    response = service_client.get("/users", query_string={"page_token": token} | query)

    assert_problem(response, 400, "invalid_request", "Page token belongs to another list")


def test_the_size_of_pages_may_change_on_the_way(service_client, database):
    users = make_users(database, 4)
    token = service_client.get("/users?page_size=1").json["next_page_token"]

    response = service_client.get("/users", query_string={"page_token": token, "page_size": 3})

    assert [each["id"] for each in response.json["items"]] == users[1:]


# Credentials

GUARDED = [
    ("GET", "/users"),
    ("GET", f"/users/{NOBODY}"),
    ("HEAD", f"/users/{NOBODY}"),
    ("PATCH", f"/users/{NOBODY}"),
    ("DELETE", f"/users/{NOBODY}"),
]


WRONG_KEYS = [None, "", "wrong", API_KEY + "x", API_KEY[:-1], "kéy", "\xff"]


@pytest.mark.parametrize(("method", "path"), GUARDED)
def test_without_the_key_nothing_is_shown(client, method, path):
    answers = {
        key: client.open(path, method=method, headers={} if key is None else {"X-API-Key": key})
        for key in WRONG_KEYS
    }

    assert statuses_of(answers) == dict.fromkeys(WRONG_KEYS, 401)
    for response in answers.values():
        assert response.content_type == "application/problem+json"
        assert response.headers["WWW-Authenticate"]


def test_credentials_are_looked_at_before_the_input(client):
    response = client.get("/users?page_size=abc")

    assert_problem(response, 401, "unauthenticated")


def test_a_service_without_a_key_lets_nobody_in(sqlite_url):
    config = AppConfig(database_url=sqlite_url, redis_url="", api_key="")
    services = open_backing_services(config)
    caller = create_app(config, services).test_client()

    for headers in ({}, {"X-API-Key": ""}):
        assert caller.get("/users", headers=headers).status_code == 401

    services.close()


# Headers and members of all answers


def request_ids(caller, path, *given):
    """Return the ids that requests with these get."""
    answers = (caller.get(path, headers={"X-Request-ID": each}) for each in given)
    return [each.headers["X-Request-ID"] for each in answers]


@pytest.mark.parametrize("path", ["/users", "/health", "/nowhere"])
def test_a_sane_request_id_is_kept(service_client, path):
    sane = ["a", "7f3c-9", "x" * 128, "a.b:c/d+e=f_g-h"]

    assert request_ids(service_client, path, *sane) == sane


def test_a_request_id_that_is_not_sane_is_replaced(service_client):
    insane = ["", "x" * 129, "a b", "a\tb", "ü", "<script>", 'a"b', "a;b"]

    replaced = request_ids(service_client, "/users", *insane)

    assert [each for each in replaced if not re.fullmatch("[0-9a-f]{32}", each)] == []


def test_every_request_without_an_id_gets_one_of_its_own(client):
    ids = {client.get("/health").headers["X-Request-ID"] for _ in range(10)}

    assert len(ids) == 10


def test_a_wrong_method_is_answered_with_the_right_ones(service_client, address):
    on_list = service_client.put("/users", json=ADA)
    on_user = service_client.post(address, json=ADA)

    assert_problem(on_list, 405, "method_not_allowed", "Method not allowed")
    assert set(on_list.headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS", "POST"}
    assert_problem(on_user, 405, "method_not_allowed", "Method not allowed")
    assert set(on_user.headers["Allow"].split(", ")) == {
        "GET", "HEAD", "OPTIONS", "PATCH", "DELETE",
    }  # fmt: skip


# Failures inside the service


def test_a_bug_is_answered_without_its_cause(app, service_client, caplog):
    secret = "a detail of the inside"

    def explode():
        raise RuntimeError(secret)

    app.add_url_rule("/explode", view_func=explode)

    response = service_client.get("/explode")

    assert_problem(response, 500, "internal_error", "Internal server error")
    assert secret not in response.text
    assert secret in caplog.text


@pytest.fixture
def dead_client():
    """A caller of a service whose database is away."""
    url = f"postgresql://app@127.0.0.1:{free_port()}/users"
    config = AppConfig(database_url=url, redis_url="", api_key=API_KEY)
    services = open_backing_services(config)
    caller = create_app(config, services).test_client()
    caller.environ_base["HTTP_X_API_KEY"] = API_KEY
    yield caller
    services.close()


@pytest.mark.parametrize(("method", "path"), [("POST", "/users"), *GUARDED])
def test_without_a_database_a_call_is_worth_trying_again(dead_client, method, path):
    body = {"json": ADA} if method in {"POST", "PATCH"} else {}

    response = dead_client.open(path, method=method, **body)

    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) >= 1
    if method != "HEAD":
        assert_problem(response, 503, "unavailable")


def test_without_a_database_a_call_writes_one_traceback(dead_client, caplog):
    dead_client.post("/users", json=ADA)

    failed, request_failed = (each for each in caplog.records if each.levelname != "INFO")
    assert (failed.message, bool(failed.exc_info)) == ("User creation failed", False)
    assert failed.error_type == "OperationalError"
    assert (request_failed.message, bool(request_failed.exc_info)) == ("Request failed", True)


def test_without_a_database_the_process_is_still_healthy(dead_client):
    assert dead_client.get("/health").status_code == 200


def test_without_a_database_bad_input_is_still_bad_input(dead_client):
    response = dead_client.post("/users", json={})

    assert_problem(response, 400, "invalid_request", "Email is required")


def make_users(database, count):
    """Register users and return their ids in the order of the list."""
    return sorted(str(make_user(database).id) for _ in range(count))


def next_link(response):
    """Return the address that a Link header calls the next page."""
    link = re.fullmatch(r'<([^>]+)>; rel="next"', response.headers["Link"])
    assert link
    return link[1]


def follow(caller, address):
    """Yield the items of page after page."""
    while address:
        response = caller.get(address)
        assert response.status_code == HTTPStatus.OK
        yield response.json["items"]
        is_last = response.json["next_page_token"] is None
        assert ("Link" in response.headers) is not is_last
        address = None if is_last else next_link(response)
