"""The parts that users add to the processes."""

from __future__ import annotations

from chassis.resource import Resource
from chassis.storage.tables import Purge, StoredMetric
from userservice.users import events, metrics, routes, service

RESOURCE = Resource(
    name="users",
    blueprint=routes.blueprint,
    handlers=events.HANDLERS,
    readers=events.READERS,
    tables={"users": Purge(service.count_purgeable_users, service.purge_deleted_users)},
    prepare_metrics=metrics.prepare,
    metrics=(StoredMetric("users", "Users by status.", "status", service.count_users),),
)
