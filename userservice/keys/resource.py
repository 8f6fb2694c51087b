"""The parts that API keys add to the processes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from chassis.resource import Resource
from chassis.storage.tables import Unpurged
from userservice.keys import metrics, models, routes

if TYPE_CHECKING:
    import click


def _commands() -> Sequence[click.Command]:
    from userservice.keys import commands  # noqa: PLC0415 - only for one-off processes

    return commands.COMMANDS


RESOURCE = Resource(
    name="api-keys",
    blueprint=routes.blueprint,
    tags={"api-keys": "API keys: made for services, each with a name, scopes and an end."},
    tables={
        models.ApiKey.__tablename__: Unpurged("A key that ended explains the rows of the trail.")
    },
    prepare_metrics=metrics.prepare,
    commands=_commands,
)
