"""GET /audit: the trail, page by page."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

import pytest

from chassis.cli.options import SOME_ID
from chassis.storage.ids import moment_of
from tests.support.deeds import deeds, store
from tests.support.factories import bearer_of, make_user

ID = SOME_ID
KEY = "0" * 32


@pytest.fixture
def read(service_client):
    """Call that returns the answer to a query."""

    def read(**query):
        response = service_client.get(f"/audit?{urlencode(query)}")
        assert response.status_code == 200, response.json
        return response.json

    return read


def ids(answer):
    return [each["id"] for each in answer["items"]]


def test_the_newest_deeds_come_first(read, database):
    stored = store(database, 3)

    assert ids(read()) == [str(each) for each in reversed(stored)]


def test_a_deed_is_told_as_it_is_stored(read, database):
    target = make_user(database)
    store(database, actor_id=ID, target=str(target.id), changed=["name", "roles"])
    (row,) = deeds(database, "user.changed")

    (told,) = read(action="user.changed")["items"]

    assert datetime.fromisoformat(told.pop("at")) == row.at
    assert told == {
        "id": str(row.id),
        "actor_kind": "user",
        "actor_id": ID,
        "source": "http",
        "action": "user.changed",
        "target": str(target.id),
        "changed": ["name", "roles"],
        "outcome": "done",
        "request_id": "r",
        "trace_id": None,
    }


def test_nobody_keeps_an_answer(service_client):
    headers = service_client.get("/audit").headers

    assert headers["Cache-Control"] == "no-store"


def test_pages_hold_each_deed_once_whatever_is_stored_meanwhile(read, database):
    stored = [str(each) for each in store(database, 5)]
    seen: list[str] = []
    token = None

    while token is not None or not seen:
        page = read(page_size=2, **({} if token is None else {"page_token": token}))
        seen += ids(page)
        token = page["next_page_token"]
        store(database)

    assert seen == stored[::-1]


def test_a_link_leads_to_the_next_page(service_client, database):
    store(database, 3, actor_id=ID)
    first = service_client.get(f"/audit?page_size=2&actor={ID}")

    address = first.headers["Link"].partition(">")[0].lstrip("<")

    assert len(ids(service_client.get(address).json)) == 1


@pytest.mark.parametrize(
    ("query", "values"),
    [
        ({"actor": ID}, {"actor_id": ID}),
        ({"actor": ID.upper()}, {"actor_id": ID}),
        ({"actor": KEY}, {"actor_kind": "key", "actor_id": KEY}),
        ({"actor": "environment"}, {"actor_kind": "key", "actor_id": "environment"}),
        ({"actor": "operator"}, {"actor_kind": "operator", "actor_id": None}),
        ({"actor": "system"}, {"actor_kind": "system", "actor_id": None}),
        ({"target": ID}, {"target": ID}),
        ({"target": KEY}, {"target": KEY}),
        ({"action": "user.erased"}, {"action": "user.erased"}),
        (
            {"actor": ID, "target": KEY, "action": "key.revoked"},
            {"actor_id": ID, "target": KEY, "action": "key.revoked"},
        ),
    ],
    ids=str,
)
def test_a_filter_leaves_others_out(read, database, query, values):
    store(database, 2)
    store(
        database,
        actor_kind="operator" if query != {"actor": "operator"} else "system",
        actor_id=None,
    )
    wanted = store(database, **values)

    assert ids(read(**query)) == [str(each) for each in wanted]


def test_only_deeds_since_a_moment_are_told(read, database):
    store(database, age=timedelta(hours=2))
    (since,) = store(database, age=timedelta(minutes=30))
    moment = datetime.now(UTC) - timedelta(hours=1)

    assert ids(read(after=moment.isoformat())) == [str(since)]
    assert ids(read(after=str(moment_of(since)))) == [str(since)]


@pytest.mark.parametrize(
    "moment",
    ["0001-01-01T00:00:00Z", "0001-01-02T00:00:00+14:00", "1969-12-31T23:59:59.999999Z"],
)
def test_a_moment_before_all_ids_is_no_bound(read, database, moment):
    store(database)

    assert len(read(after=moment)["items"]) == 1


def test_a_moment_behind_all_ids_leaves_nothing(read, database):
    store(database)

    assert read(after="9999-12-31T09:59:59.999999-14:00")["items"] == []


NOT_VALID = [
    {"actor": "ada@example.com"},
    {"actor": ""},
    {"actor": "Operator"},
    {"actor": "a" * 4000},
    {"actor": f"{ID}\n"},
    {"actor": f"{ID}\x00"},
    {"actor": ID.replace("-", "\u2010")},
    {"target": "environment"},
    {"target": "\x00"},
    {"target": f"{{{ID}}}"},
    {"target": "\u0661" * 32},
    {"target": "' OR 1=1 --"},
    {"action": "user"},
    {"action": ""},
    {"action": "USER.ERASED"},
    {"action": "user.erased\x00"},
    {"after": "yesterday"},
    {"after": "2026-01-31"},
    {"after": "2026-01-31T12:00:00"},
    {"after": "0001-01-01T00:00:00+14:00"},
    {"after": "9999-12-31T23:59:59-14:00"},
    {"after": "\x00"},
    {"after": "1" * 400},
    {"page_size": "201"},
    {"page_size": "0"},
    {"page_token": ""},
    {"page_token": "x" * 1025},
    {"page_token": "\x00"},
]


def test_a_value_that_is_none_is_refused_by_name(service_client):
    answers = [(query, service_client.get(f"/audit?{urlencode(query)}")) for query in NOT_VALID]

    for query, answer in answers:
        (name,) = query
        assert (answer.status_code, answer.json["code"]) == (400, "invalid_request"), query
        assert answer.json["detail"].startswith(name.capitalize().replace("_", " ")), query


def test_bytes_that_are_no_text_are_refused(service_client):
    assert service_client.get("/audit?actor=%ff%fe").status_code == 400


def token_of(service_client, path):
    return service_client.get(f"{path}page_size=1").json["next_page_token"]


@pytest.mark.parametrize(
    "query",
    [
        {"actor": ID},
        {"target": ID},
        {"action": "user.changed"},
        {"after": "2026-01-31T12:00:00Z"},
    ],
    ids=str,
)
def test_a_token_holds_for_the_filters_that_it_was_made_for(service_client, database, query):
    store(database, 2, actor_id=ID, target=ID)
    plain = token_of(service_client, "/audit?")
    filtered = token_of(service_client, f"/audit?{urlencode(query)}&")

    mixed = [
        {**query, "page_token": plain},
        {"page_token": filtered},
    ]

    for each in mixed:
        response = service_client.get(f"/audit?{urlencode(each)}")
        assert response.json["detail"] == "Page token belongs to another list"
        assert response.status_code == 400


def test_a_token_of_another_list_is_refused_by_both(service_client, database):
    store(database, 2)
    make_user(database)
    make_user(database)

    answers = [
        service_client.get(
            "/audit", query_string={"page_token": token_of(service_client, "/users?")}
        ),
        service_client.get(
            "/users", query_string={"page_token": token_of(service_client, "/audit?")}
        ),
    ]

    assert [each.status_code for each in answers] == [400, 400]


def test_a_token_with_a_byte_changed_is_refused(service_client, database):
    store(database, 2)
    token = token_of(service_client, "/audit?")

    for at in range(len(token)):
        changed = token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :]
        answer = service_client.get("/audit", query_string={"page_token": changed})
        # The last character of a signature carries bits that mean nothing.
        assert answer.status_code == 400 or at == len(token) - 1


def test_the_trail_of_a_deleted_user_stays(read, service_client, database):
    user = make_user(database)
    store(database, target=str(user.id))
    assert service_client.delete(f"/users/{user.id}?erase=now").status_code == 204

    assert "user.changed" in [each["action"] for each in read(target=str(user.id))["items"]]


def test_users_do_not_read_it(client, config, database):
    user = make_user(database)

    answers = [
        client.get("/audit", headers=bearer_of(database, config, user)),
        client.get(f"/audit?target={user.id}", headers=bearer_of(database, config, user)),
    ]

    assert [each.status_code for each in answers] == [403, 403]
