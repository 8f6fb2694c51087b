"""Commands that read the audit trail."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from chassis.backing_services import BackingServices
from chassis.cli.group import require_command
from chassis.cli.options import SOME_ID, as_json, examples, with_services
from chassis.cli.output import written_whole
from chassis.storage import migrations
from userservice.actions import Action
from userservice.trail import service
from userservice.trail.schemas import EventFilter, EventRead

_FILTERS = (
    click.option("--actor", help="Id of a user or a key; environment, operator or system."),
    click.option("--target", metavar="ID", help="Only deeds to this user, or this thing."),
    click.option(
        "--action",
        type=click.Choice([str(each) for each in Action]),
        metavar="ACTION",
        help="Only this deed.",
    ),
    click.option("--after", metavar="TIME", help="Only since then, as 2026-01-31T12:00:00Z."),
)


def with_filter(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the deeds that its options ask for, as `wanted`."""

    @wraps(command)
    def run(*arguments: Any, **options: Any) -> None:
        given = {name: options.pop(name) for name in EventFilter.model_fields}
        values = {name: value for name, value in given.items() if value is not None}
        command(*arguments, wanted=EventFilter.load_values(values), **options)

    for option in reversed(_FILTERS):
        run = option(run)
    return run


@click.group("audit", invoke_without_command=True)
@click.pass_context
def audit_group(ctx: click.Context) -> None:
    """Read who did what to whom: the audit trail."""
    require_command(ctx)


@audit_group.command(
    "list",
    epilog=examples(
        "audit list",
        f"audit list --target {SOME_ID}",
        "audit list --actor operator --action user.erased --json",
    ),
)
@with_filter
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 10_000))
@as_json
@with_services
def list_events(
    services: BackingServices, *, wanted: EventFilter, limit: int, is_json: bool
) -> None:
    """List deeds, newest first."""
    migrations.require_current(services.database)
    found = service.list_events(services.database, wanted, limit=limit)
    read = [EventRead.model_validate(row, from_attributes=True) for row in found]
    if is_json:
        click.echo(f"[{', '.join(each.model_dump_json() for each in read)}]")
        return
    for each in read:
        click.echo(_line(each))


@audit_group.command(
    "export",
    epilog=examples("audit export trail.ndjson", "audit export --after 2026-01-31T00:00:00Z -"),
)
@click.argument("file", type=click.Path(allow_dash=True, path_type=Path))
@with_filter
@with_services
def export_events(services: BackingServices, *, file: Path, wanted: EventFilter) -> None:
    """Write deeds to FILE, oldest first. One a line, as JSON; - is standard output."""
    migrations.require_current(services.database)
    with written_whole(file) as target:
        for piece in service.export_events(services.database, wanted):
            target.write(piece)


COMMANDS = (audit_group,)


def _line(event: EventRead) -> str:
    by = f"{event.actor_kind} {event.actor_id}" if event.actor_id else event.actor_kind
    members = ",".join(event.changed) or "-"
    at = event.at.isoformat(timespec="seconds")
    return f"{at}  {event.action}  {event.target or '-'}  {members}  by {by}  {event.outcome}"
