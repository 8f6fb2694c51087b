"""Commands about the messages in the outbox."""

from __future__ import annotations

import json
from datetime import datetime
from uuid import UUID

import click

from chassis.background import upkeep
from chassis.background.outbox import MessageStatus
from chassis.backing_services import BackingServices
from chassis.cli.group import require_command
from chassis.cli.options import SOME_ID, as_json, examples, with_services
from chassis.storage import migrations


@click.group("outbox", invoke_without_command=True)
@click.pass_context
def outbox_group(ctx: click.Context) -> None:
    """Look at messages, and try again what was given up."""
    require_command(ctx)


@outbox_group.command(
    "list", epilog=examples("outbox list", "outbox list --status queued --limit 10 --json")
)
@click.option(
    "--status",
    type=click.Choice([str(each) for each in MessageStatus]),
    default=str(MessageStatus.ABANDONED),
    show_default=True,
)
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 10_000))
@as_json
@with_services
def list_messages(services: BackingServices, *, status: str, limit: int, is_json: bool) -> None:
    """List messages, oldest first, without what they carry."""
    migrations.require_current(services.database)
    with services.database.connection() as connection:
        found = upkeep.list_messages(connection, MessageStatus(status), limit=limit)
    if is_json:
        click.echo(json.dumps([*found], default=_as_text))
        return
    for row in found:
        error = row["last_error"] or "-"
        due_at = _as_text(row["due_at"])
        click.echo(f"{row['id']}  {row['topic']}  {row['attempts']} attempts  {due_at}  {error}")


@outbox_group.command(epilog=examples(f"outbox show {SOME_ID}", f"outbox show {SOME_ID} --payload"))
@click.argument("message_id", metavar="ID", type=click.UUID)
@click.option("--payload", "is_whole", is_flag=True, help="What it carries, too; may be personal.")
@as_json
@with_services
def show(services: BackingServices, *, message_id: UUID, is_whole: bool, is_json: bool) -> None:
    """Show a message, without what it carries. Exit 1 when there is none with this ID."""
    migrations.require_current(services.database)
    with services.database.connection() as connection:
        found = upkeep.find_message(connection, message_id)
    if found is None:
        raise click.ClickException(f"There is no message {message_id}")
    shown = {name: value for name, value in found.items() if is_whole or name != "payload"}
    document = json.dumps(shown, default=_as_text)
    if is_json:
        click.echo(document)
        return
    for name, value in json.loads(document).items():
        click.echo(f"{name}: {'-' if value is None else value}")


@outbox_group.command(epilog=examples(f"outbox requeue {SOME_ID}", "outbox requeue --all"))
@click.argument("ids", nargs=-1, type=click.UUID)
@click.option("--all", "is_all", is_flag=True, help="Every abandoned message.")
@as_json
@with_services
def requeue(
    services: BackingServices, *, ids: tuple[UUID, ...], is_all: bool, is_json: bool
) -> None:
    """Try abandoned messages for another day. Exit 1 when one of IDS is not abandoned."""
    if bool(ids) == is_all:
        raise click.UsageError("Give the ids of messages, or --all")
    migrations.require_current(services.database)
    with services.database.transaction() as connection:
        number = upkeep.requeue(connection, None if is_all else ids)
    click.echo(json.dumps({"requeued": number}) if is_json else f"Requeued {number} messages")
    if ids and number < len(set(ids)):
        raise click.ClickException(f"{len(set(ids)) - number} of them were not abandoned")


def _as_text(value: datetime | UUID) -> str:
    return value.isoformat(timespec="seconds") if isinstance(value, datetime) else str(value)
