"""The parts that API keys add to the processes."""

from __future__ import annotations

from chassis.resource import Resource
from chassis.storage.tables import Unpurged
from userservice.keys import models

RESOURCE = Resource(
    name="api-keys",
    tables={
        models.ApiKey.__tablename__: Unpurged("A revoked key explains the rows of the audit trail.")
    },
)
