"""A new resource's routes: owners, pages, conditions and keys, by what chassis/http offers."""

from __future__ import annotations

from itertools import chain
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import pytest

from chassis.errors import Forbidden
from chassis.http.auth import caller_id, principal, public
from tests.support.factories import bearer_of, make_user
from tests.support.notes import Notes, blueprint_of


@pytest.fixture(autouse=True)
def notes(app):
    notes = Notes()
    app.register_blueprint(blueprint_of(notes))
    return notes


@pytest.fixture
def log_in(app, config, database):
    """Call that returns a client for a new user."""

    def log_in(**values):
        user = make_user(database, **values)
        caller = app.test_client()
        header = bearer_of(database, config, user)["Authorization"]
        caller.environ_base["HTTP_AUTHORIZATION"] = header
        return caller

    return log_in


def write(caller, text="milk", **headers):
    return caller.post("/notes", json={"text": text}, headers=headers)


def address(created):
    return f"/notes/{created.json['id']}"


# Owners


def test_a_thing_is_for_its_owner_and_for_administrators(log_in, client, service_client):
    owner = log_in()
    note = address(write(owner))

    callers = (owner, log_in(), log_in(is_superuser=True), service_client, client)

    assert [caller.get(note).status_code for caller in callers] == [200, 403, 200, 200, 401]


def test_a_stranger_changes_nothing(notes, log_in):
    note = address(write(log_in()))

    response = log_in().put(note, json={"text": "bread"})

    assert response.status_code == 403
    assert [each.text for each in notes.rows.values()] == ["milk"]


def test_a_stranger_does_not_learn_whether_a_thing_is_there(log_in):
    stranger, administrator = log_in(), log_in(is_superuser=True)
    there, missing = address(write(log_in())), f"/notes/{uuid4()}"

    refusals = [stranger.get(each).json for each in (there, missing)]

    assert {(each["status"], each["detail"]) for each in refusals} == {
        (403, refusals[0]["detail"]),
    }
    assert administrator.get(missing).status_code == 404


def test_an_owner_is_looked_up_for_none_but_users_who_are_no_administrators(
    notes, log_in, client, service_client
):
    owner = log_in()
    note = address(write(owner))

    for caller in (client, service_client, log_in(is_superuser=True)):
        caller.get(note)
    assert notes.looked_up == []

    owner.get(note)
    assert notes.looked_up == list(notes.rows)


def test_the_caller_of_a_route_for_users_is_a_user(notes, log_in, service_client):
    first, second = log_in(), log_in()

    write(first)
    write(second)

    assert len({each.owner_id for each in notes.rows.values()}) == 2
    assert write(service_client).status_code == 403


def test_where_no_user_calls_there_is_no_id_of_one(app):
    seen = []

    @public
    def view():
        seen.append(principal())
        with pytest.raises(Forbidden):
            caller_id()
        return ""

    app.add_url_rule("/anyone", view_func=view)

    assert app.test_client().get("/anyone").status_code == 200
    assert seen == [None]


# Pages


def follow(caller, path):
    """Return the pages of a list, by the links from one to the next."""
    pages = []
    while path is not None:
        response = caller.get(path)
        assert response.status_code == 200, response.json
        pages.append([each["text"] for each in response.json["items"]])
        link = response.headers.get("Link")
        assert (link is None) == (response.json["next_page_token"] is None)
        path = link and link.removesuffix('>; rel="next"').removeprefix("<")
    return pages


@pytest.mark.parametrize(
    ("number", "sizes"), [(0, [0]), (2, [2]), (3, [3]), (4, [3, 1]), (7, [3, 3, 1])]
)
def test_links_lead_through_a_list_without_gaps_or_repetitions(log_in, number, sizes):
    caller = log_in()
    texts = [str(each) for each in range(number)]
    for text in texts:
        write(caller, text)

    pages = follow(caller, "/notes?page_size=3")

    assert [len(page) for page in pages] == sizes
    assert list(chain.from_iterable(pages)) == texts


def test_a_link_keeps_the_filters_and_the_size(log_in):
    caller = log_in()
    for text in ("a&b", "c", "a&b", "a&b"):
        write(caller, text)

    link = caller.get("/notes?text=a%26b&page_size=2&is_short=true").headers["Link"]
    given = parse_qs(urlsplit(link[1 : link.index(">")]).query)

    assert (given["text"], given["page_size"]) == (["a&b"], ["2"])
    assert follow(caller, "/notes?text=a%26b&page_size=2&is_short=true") == [["a&b"] * 2, ["a&b"]]


@pytest.mark.parametrize("other", ["text=c", "is_short=false", ""])
def test_a_token_continues_no_list_with_other_filters(log_in, other):
    caller = log_in()
    for _ in range(2):
        write(caller, "b")
    page = caller.get("/notes?text=b&is_short=true&page_size=1").json

    response = caller.get(f"/notes?page_token={page['next_page_token']}&{other}")

    assert response.status_code == 400
    assert response.json["detail"] == "Page token belongs to another list"


def test_a_page_is_for_its_caller_alone(log_in):
    assert log_in().get("/notes").headers["Cache-Control"] == "private, no-cache"


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("page_size=0", "Page size must be at least 1"),
        ("page_size=201", "Page size must be at most 200"),
        ("page_token=forged", "Page token is not valid"),
    ],
)
def test_a_page_that_there_cannot_be_is_refused(log_in, query, detail):
    response = log_in().get(f"/notes?{query}")

    assert (response.status_code, response.json["detail"]) == (400, detail)


# Conditions


def test_a_version_that_is_known_is_not_sent_again(log_in):
    caller = log_in()
    note = address(write(caller))
    read = caller.get(note)

    again = caller.get(note, headers={"If-None-Match": read.headers["ETag"]})
    caller.put(note, json={"text": "bread"})
    changed = caller.get(note, headers={"If-None-Match": read.headers["ETag"]})

    assert (again.status_code, again.data) == (304, b"")
    assert again.headers["ETag"] == read.headers["ETag"] == '"1"'
    assert (changed.status_code, changed.headers["ETag"]) == (200, '"2"')
    assert {"Last-Modified", "Cache-Control"} <= set(changed.headers.keys())


@pytest.mark.parametrize(
    ("if_match", "text"),
    [
        ('"1"', "bread"),
        ('"7", "1"', "bread"),
        ("*", "bread"),
        ('"2"', "milk"),
        ('W/"1"', "milk"),
        ('"01"', "milk"),
        ('"1234567890"', "milk"),
        ('""', "milk"),
        ("", "milk"),
    ],
)
def test_a_change_is_for_the_versions_that_the_caller_names(log_in, if_match, text):
    caller = log_in()
    note = address(write(caller))

    caller.put(note, json={"text": "bread"}, headers={"If-Match": if_match})

    assert caller.get(note).json["text"] == text


# Keys


def test_a_request_that_is_repeated_with_its_key_creates_one_thing(notes, log_in):
    caller = log_in()

    first, second = (write(caller, **{"Idempotency-Key": "1"}) for _ in range(2))

    assert len(notes.rows) == 1
    assert (first.status_code, first.data) == (second.status_code, second.data)
    assert "Idempotent-Replayed" not in first.headers
    assert second.headers["Idempotent-Replayed"] == "true"


def test_a_key_is_its_callers_own(notes, log_in):
    for caller in (log_in(), log_in()):
        write(caller, **{"Idempotency-Key": "1"})

    assert len(notes.rows) == 2


def test_a_key_of_one_route_says_nothing_to_another(log_in):
    caller = log_in()
    body = {"text": "milk", "email": "ada@example.com", "name": "Ada"}

    answers = [
        caller.post(path, json=body, headers={"Idempotency-Key": "1"})
        for path in ("/notes", "/users")
    ]

    assert [each.status_code for each in answers] == [201, 201]
    assert answers[0].json["id"] != answers[1].json["id"]


def test_without_a_key_each_request_creates_one(notes, log_in):
    caller = log_in()

    write(caller)
    write(caller)

    assert len(notes.rows) == 2
