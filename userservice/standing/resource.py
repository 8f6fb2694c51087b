"""The parts that standing adds to the processes."""

from __future__ import annotations

from chassis.resource import Resource
from userservice.standing import routes

RESOURCE = Resource(
    name="standing",
    blueprint=routes.blueprint,
    tags={"standing": "Standing: suspension, superusers, roles, an account at a glance."},
)
