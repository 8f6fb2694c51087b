"""The parts that addresses add to the processes."""

from __future__ import annotations

from chassis.resource import Resource
from userservice.emails import events, metrics, routes

RESOURCE = Resource(
    name="emails",
    blueprint=routes.blueprint,
    tags={"emails": "A user's e-mail address: verify it, change it, confirm it."},
    handlers=events.HANDLERS,
    prepare_metrics=metrics.prepare,
)
