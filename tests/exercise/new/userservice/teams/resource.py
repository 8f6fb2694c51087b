"""The parts that teams add to the processes."""

from __future__ import annotations

from chassis.resource import Resource
from chassis.storage.tables import Unpurged
from userservice.teams import events, routes

RESOURCE = Resource(
    name="teams",
    blueprint=routes.blueprint,
    tags={"teams": "Teams of users."},
    handlers=events.HANDLERS,
    tables={"teams": Unpurged("A team goes with its owner.")},
)
