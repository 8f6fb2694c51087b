"""The parts that the audit trail adds to the processes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from chassis.resource import Resource
from chassis.storage import trail
from userservice.trail import routes

if TYPE_CHECKING:
    import click


def _commands() -> Sequence[click.Command]:
    from userservice.trail import commands  # noqa: PLC0415 - only for one-off processes

    return commands.COMMANDS


RESOURCE = Resource(
    name="audit",
    blueprint=routes.blueprint,
    tags={"audit": "Who did what to whom."},
    tables=trail.TABLES,
    commands=_commands,
)
