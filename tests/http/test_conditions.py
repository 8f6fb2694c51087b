"""Conditions on versions and on dates, in the order of RFC 9110, section 13.2.2."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from tests.support.factories import make_user
from userservice.users import queries, service

CHANGED = datetime(2024, 5, 6, 7, 8, 9, 500_000, tzinfo=UTC)
NAME = {"name": "Countess"}


def http_date(moment):
    return format_datetime(moment, usegmt=True)


BEFORE = http_date(CHANGED - timedelta(seconds=1))
AT = http_date(CHANGED)  # whole seconds, as Last-Modified has them
AFTER = http_date(CHANGED + timedelta(days=1))
NO_DATES = ["", "yesterday", "2024-05-06", "Mon, 99 Foo 2024 99:99:99 GMT", f"{AT}, {AT}", "\xff"]
NO_DATES += ["Mon, 06 May 99999999999999999999 07:08:09 GMT", "1e400"]

# Conditions -> whether a version 1 that changed at CHANGED may be changed.
CHANGES = [
    ({"If-Unmodified-Since": BEFORE}, False),
    ({"If-Unmodified-Since": AT}, True),
    ({"If-Unmodified-Since": AFTER}, True),
    # Only without If-Match.
    ({"If-Match": '"1"', "If-Unmodified-Since": BEFORE}, True),
    ({"If-Match": "*", "If-Unmodified-Since": BEFORE}, True),
    ({"If-Match": '"2"', "If-Unmodified-Since": AFTER}, False),
    ({"If-None-Match": "*"}, False),
    ({"If-None-Match": '"1"'}, False),
    ({"If-None-Match": 'W/"1"'}, False),
    ({"If-None-Match": '"2", "3"'}, True),
    # Both have to hold.
    ({"If-Match": '"1"', "If-None-Match": '"1"'}, False),
    ({"If-Match": '"1"', "If-None-Match": '"2"'}, True),
    ({"If-Match": '"2"', "If-None-Match": '"2"'}, False),
    ({"If-Unmodified-Since": BEFORE, "If-None-Match": '"2"'}, False),
    # Means nothing to a change.
    ({"If-Modified-Since": AFTER}, True),
    *(({"If-Unmodified-Since": each}, True) for each in NO_DATES),
]
READS = [
    ({"If-Modified-Since": BEFORE}, 200),
    ({"If-Modified-Since": AT}, 304),
    ({"If-Modified-Since": AFTER}, 304),
    # Only without If-None-Match.
    ({"If-None-Match": '"2"', "If-Modified-Since": AFTER}, 200),
    ({"If-None-Match": '"1"', "If-Modified-Since": BEFORE}, 304),
    ({"If-Unmodified-Since": BEFORE}, 412),
    ({"If-Unmodified-Since": AT}, 200),
    ({"If-Match": '"2"'}, 412),
    ({"If-Match": '"1"'}, 200),
    ({"If-Match": '"2"', "If-None-Match": '"1"'}, 412),
    ({"If-Match": '"1"', "If-None-Match": '"1"'}, 304),
    ({"If-Match": '"1"', "If-Unmodified-Since": BEFORE}, 200),
    *(({"If-Modified-Since": each}, 200) for each in NO_DATES),
    *(({"If-Unmodified-Since": each}, 200) for each in NO_DATES),
]


@pytest.fixture
def database_url(sqlite_url):
    """The database makes no difference here."""
    return sqlite_url


@pytest.fixture
def address(database):
    """The address of a user whose last change lies at CHANGED."""
    user = make_user(database)
    with database.connection() as connection:
        connection.execute(queries.users.update().values(updated_at=CHANGED))
    return f"/users/{user.id}"


@pytest.mark.parametrize(("conditions", "is_done"), CHANGES)
@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
def test_a_change_is_made_when_all_its_conditions_hold(
    service_client, address, method, conditions, is_done
):
    body = {"json": NAME} if method == "PATCH" else {}

    response = service_client.open(address, method=method, headers=conditions, **body)

    if is_done:
        assert response.status_code == {"PATCH": 200, "DELETE": 204}[method]
    else:
        assert response.status_code == 412
        assert response.json["code"] == "precondition_failed"
        assert service_client.get(address).headers["ETag"] == '"1"'


@pytest.mark.parametrize(("conditions", "status"), READS)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_read_honours_all_conditions(service_client, address, method, conditions, status):
    response = service_client.open(address, method=method, headers=conditions)

    assert response.status_code == status
    if status != 412:
        assert response.headers["ETag"] == '"1"'


def test_the_date_that_was_sent_is_good_as_a_condition(service_client, address):
    date = service_client.get(address).headers["Last-Modified"]

    known = service_client.get(address, headers={"If-Modified-Since": date})
    first = service_client.patch(address, json=NAME, headers={"If-Unmodified-Since": date})
    second = service_client.patch(address, json=NAME, headers={"If-Unmodified-Since": date})

    assert [known.status_code, first.status_code, second.status_code] == [304, 200, 412]


@pytest.mark.parametrize("name", ["If-Unmodified-Since", "If-None-Match", "If-Match"])
def test_a_condition_on_a_user_that_does_not_exist_is_not_found(service_client, address, name):
    service_client.delete(address)

    response = service_client.patch(
        address, json=NAME, headers={name: AFTER if "Since" in name else "*"}
    )

    assert response.status_code == 404


def test_a_change_between_the_look_and_the_change_is_noticed(service_client, address, monkeypatch):
    find = service.get_user

    def find_and_lose(database, user_id):
        user = find(database, user_id)
        with database.connection() as connection:
            connection.execute(queries.users.update().values(version=2))
        return user

    monkeypatch.setattr(service, "get_user", find_and_lose)

    response = service_client.patch(address, json=NAME, headers={"If-Unmodified-Since": AT})

    assert response.status_code == 412
