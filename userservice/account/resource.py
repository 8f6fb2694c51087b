"""The parts that the page /account adds to the processes."""

from __future__ import annotations

from chassis.resource import Resource
from userservice.account import routes

RESOURCE = Resource(name="account", blueprint=routes.blueprint)
