"""The parts that jobs add to the processes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from chassis.resource import Resource
from chassis.storage.tables import Purge, Unpurged
from userservice.jobs import events, metrics, routes, service

if TYPE_CHECKING:
    import click


def _commands() -> Sequence[click.Command]:
    from userservice.jobs import commands  # noqa: PLC0415 - only for one-off processes

    return commands.COMMANDS


RESOURCE = Resource(
    name="jobs",
    blueprint=routes.blueprint,
    tags={"jobs": "Many users at once, and the jobs that bring them in."},
    handlers=events.HANDLERS,
    abandoned_handlers=events.ABANDONED_HANDLERS,
    tables={
        "jobs": Purge(service.count_old_jobs, service.purge_old_jobs),
        "job_chunks": Unpurged("They go when their job is over, or with it (ON DELETE CASCADE)."),
        "job_errors": Unpurged("They go with their job (ON DELETE CASCADE)."),
    },
    prepare_metrics=metrics.prepare,
    commands=_commands,
)
