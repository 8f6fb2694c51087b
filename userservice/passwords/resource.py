"""The parts that passwords add to the processes."""

from __future__ import annotations

from chassis.resource import Resource
from userservice.passwords import events, metrics, routes

RESOURCE = Resource(
    name="passwords",
    blueprint=routes.blueprint,
    tags={"passwords": "Passwords: change, forget, reset."},
    handlers=events.HANDLERS,
    prepare_metrics=metrics.prepare,
)
