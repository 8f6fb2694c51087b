"""The parts that privacy adds to the processes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from chassis.resource import Resource
from userservice.privacy import routes

if TYPE_CHECKING:
    import click


def _commands() -> Sequence[click.Command]:
    from userservice.privacy import commands  # noqa: PLC0415 - only for one-off processes

    return commands.COMMANDS


RESOURCE = Resource(
    name="privacy",
    blueprint=routes.blueprint,
    tags={"privacy": "All that is stored of a person."},
    commands=_commands,
)
