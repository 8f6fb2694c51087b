"""The actor is named for a request, or a piece of work, and for no other."""

from __future__ import annotations

import pytest

from chassis.actor import CALLER, OPERATOR, WORKER, ActorKind, Source, act_as, acting, actor
from chassis.http.auth import Guard, public, requires
from tests.conftest import API_KEY
from tests.support.factories import bearer_of, make_user
from tests.support.keys import key_of


def test_the_actor_of_a_piece_of_work_is_forgotten_after_it():
    before = actor.get()

    with acting(OPERATOR):
        act_as(ActorKind.KEY, "k")
        within = actor.get()

    assert (within.kind, within.id, within.source) == (ActorKind.KEY, "k", Source.COMMAND)
    assert actor.get() is before is WORKER


def test_a_request_begins_without_the_actor_of_the_one_before(app, service_client):
    """On the same thread, and on a route that looks at no credentials."""
    seen = []

    @public
    def look():
        seen.append(actor.get())
        act_as(ActorKind.USER, "somebody")
        return ""

    app.add_url_rule("/look", view_func=look)

    for _ in range(2):
        service_client.get("/look")

    assert seen == [CALLER, CALLER]


@pytest.fixture
def callers(database, config):
    """Credentials of each kind, and the actor that each of them names."""
    user, key = make_user(database), key_of(database, "things:read")
    return {
        "user": (bearer_of(database, config, user), (ActorKind.USER, str(user.id), False)),
        "environment": ({"X-API-Key": API_KEY}, (ActorKind.KEY, "environment", False)),
        "key": (key, (ActorKind.KEY, key["X-API-Key"].split("_")[1], True)),
        "nobody": ({}, (ActorKind.SYSTEM, None, False)),
    }


def test_a_request_acts_for_the_one_whose_credentials_it_carries(app, client, callers):
    seen = []

    @requires(Guard.REGISTRAR, "things:read")
    def look():
        by = actor.get()
        seen.append((by.kind, by.id, by.is_named_key))
        return ""

    app.add_url_rule("/look", view_func=look)

    for headers, _ in callers.values():
        client.get("/look", headers=headers)

    assert seen == [expected for _, expected in callers.values()]
    assert [each.is_named_key for each in (OPERATOR, WORKER, CALLER)] == [False] * 3
