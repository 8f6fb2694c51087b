from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from bootstrap import make_mailer
from chassis.background import outbox
from tests.support.factories import bearer_of, make_user
from userservice.resources import EVENT_HANDLERS
from userservice.teams import service
from userservice.teams.schemas import TeamCreate
from userservice.users.service import delete_user

ENGINEERS = {"name": "Engineers"}


@pytest.fixture
def call(app, config, database):
    """Make a user of its own, and the client with which that user calls."""

    def make_caller():
        client = app.test_client()
        user = make_user(database)
        header = bearer_of(database, config, user)["Authorization"]
        client.environ_base["HTTP_AUTHORIZATION"] = header
        return client

    return make_caller


@pytest.fixture
def mailing(services, config, provider):
    """The attached resources, the e-mail provider among them."""
    mailer = make_mailer(replace(config, email_service_url=provider.url))
    yield replace(services, mailer=mailer)
    mailer.close()


def the_message(database):
    """Return the message about a team that a worker is given."""
    now, lease = datetime.now(UTC), timedelta(seconds=15)
    with database.connection() as connection:
        claimed = outbox.claim(connection, now=now, limit=10, lease=lease)
    (message,) = (each for each in claimed if each.topic == service.TEAM_CREATED)
    return message


def test_a_team_that_was_created_is_found_where_the_answer_says(call):
    client = call()

    created = client.post("/teams", json=ENGINEERS)

    assert created.status_code == 201
    assert created.json["name"] == "Engineers"
    assert client.get(created.headers["Location"]).json == created.json


def test_a_team_needs_a_name(call):
    response = call().post("/teams", json={"name": ""})

    assert response.status_code == 400
    assert response.json["errors"][0]["pointer"] == "/name"


def test_a_user_lists_the_own_teams_page_by_page(call):
    client, other = call(), call()
    other.post("/teams", json={"name": "Not mine"})
    for name in ("One", "Two", "Three"):
        client.post("/teams", json={"name": name})

    first = client.get("/teams?page_size=2").json
    second = client.get(f"/teams?page_size=2&page_token={first['next_page_token']}").json

    assert [each["name"] for each in first["items"] + second["items"]] == ["One", "Two", "Three"]
    assert second["next_page_token"] is None


def test_a_team_of_another_is_not_shown(call):
    location = call().post("/teams", json=ENGINEERS).headers["Location"]

    response = call().get(location)

    assert response.status_code == 403


def test_a_team_that_is_not_there_is_not_found(service_client):
    response = service_client.get(f"/teams/{uuid4()}")

    assert response.status_code == 404
    assert response.json["code"] == "team_not_found"


def test_the_owner_is_told_of_the_new_team(mailing, provider):
    owner = make_user(mailing.database, email="ada@example.com")
    service.create_team(mailing.database, owner.id, TeamCreate(name="Engineers"))
    message = the_message(mailing.database)

    is_sent = EVENT_HANDLERS[message.topic](mailing, message)

    (mail,) = provider.attempts
    assert is_sent is True
    assert mail.document["to"] == "ada@example.com"
    assert mail.document["variables"] == {"team": "Engineers"}
    assert mail.key == str(message.id)


def test_nobody_is_told_when_the_owner_has_gone(mailing, provider):
    owner = make_user(mailing.database)
    service.create_team(mailing.database, owner.id, TeamCreate(name="Engineers"))
    delete_user(mailing.database, owner.id)

    is_sent = EVENT_HANDLERS[service.TEAM_CREATED](mailing, the_message(mailing.database))

    assert is_sent is False
    assert provider.attempts == []
