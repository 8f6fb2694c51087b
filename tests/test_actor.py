"""The actor is named for a request, or a piece of work, and for no other."""

from __future__ import annotations

from chassis.actor import CALLER, OPERATOR, WORKER, ActorKind, Source, act_as, acting, actor
from chassis.http.auth import public


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
