"""The parts that discovery adds to the processes."""

from __future__ import annotations

from chassis.resource import Resource
from userservice.discovery import routes

RESOURCE = Resource(
    name="discovery",
    blueprint=routes.blueprint,
    tags={"discovery": "Keys and addresses, for services that verify access tokens."},
)
