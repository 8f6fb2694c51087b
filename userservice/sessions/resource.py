"""The parts that sessions add to the processes."""

from __future__ import annotations

from chassis.resource import Resource
from userservice.sessions import routes

RESOURCE = Resource(
    name="sessions",
    blueprint=routes.blueprint,
    tags={"sessions": "A user's log-ins: look at them, end them."},
)
