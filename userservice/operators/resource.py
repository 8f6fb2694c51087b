"""The parts that operators add to the processes: commands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from chassis.resource import Resource

if TYPE_CHECKING:
    import click


def _commands() -> Sequence[click.Command]:
    from userservice.operators import commands  # noqa: PLC0415 - only for one-off processes

    return commands.COMMANDS


RESOURCE = Resource(name="operators", commands=_commands)
