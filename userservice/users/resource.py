"""The parts that users add to the processes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from chassis.resource import Resource
from chassis.storage.tables import Purge, StoredMetric
from userservice.users import events, metrics, routes, service

if TYPE_CHECKING:
    import click


def _commands() -> Sequence[click.Command]:
    from userservice.users import commands  # noqa: PLC0415 - only for one-off processes

    return commands.COMMANDS


RESOURCE = Resource(
    name="users",
    blueprint=routes.blueprint,
    tags={"users": "Users: register, read, change, delete."},
    handlers=events.HANDLERS,
    readers=events.READERS,
    tables={"users": Purge(service.count_purgeable_users, service.purge_deleted_users)},
    prepare_metrics=metrics.prepare,
    metrics=(StoredMetric("users", "Users by status.", "status", service.count_users),),
    commands=_commands,
)
