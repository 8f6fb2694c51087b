"""The parts that discovery adds to the processes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from chassis.resource import Resource
from userservice.discovery import routes

if TYPE_CHECKING:
    import click


def _commands() -> Sequence[click.Command]:
    from userservice.discovery import commands  # noqa: PLC0415 - only for one-off processes

    return commands.COMMANDS


RESOURCE = Resource(
    name="discovery",
    blueprint=routes.blueprint,
    tags={"discovery": "Keys and addresses, for services that verify access tokens."},
    commands=_commands,
)
