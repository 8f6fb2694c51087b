"""Commands about users and their log-ins."""

from __future__ import annotations

import json
from uuid import UUID

import click

from chassis.backing_services import BackingServices
from chassis.cli.group import require_command
from chassis.cli.options import (
    SOME_ID,
    as_json,
    as_sure,
    examples,
    require_sure,
    with_services,
)
from chassis.storage import migrations
from userservice.operators import password_commands, service, standing_commands
from userservice.operators.documents import document_of, line_of, lines_of
from userservice.operators.queries import Filter
from userservice.operators.standing_commands import the_user
from userservice.sessions.service import end_sessions

as_personal = click.option(
    "--personal", "is_personal", is_flag=True, help="Address, name and reasons, too."
)


@click.group("users", invoke_without_command=True)
@click.pass_context
def users_group(ctx: click.Context) -> None:
    """Look at users, and act for them. USER is an id, or the address of one who is not deleted."""
    require_command(ctx)


@users_group.command(
    "list",
    epilog=examples(
        "users list", "users list --superusers --personal", "users list --status deleted --json"
    ),
)
@click.option(
    "--status",
    type=click.Choice(["active", "suspended", "deleted"]),
    help="Only these; else all who are not deleted.",
)
@click.option("--superusers", "is_superuser", is_flag=True, help="Only superusers.")
@click.option("--after", type=click.UUID, metavar="ID", help="Begin behind this user.")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 10_000))
@as_personal
@as_json
@with_services
def list_users(  # noqa: PLR0913 - one argument for each option
    services: BackingServices,
    *,
    status: str | None,
    is_superuser: bool,
    after: UUID | None,
    limit: int,
    is_personal: bool,
    is_json: bool,
) -> None:
    """List users in the order of their registration, without addresses and names."""
    migrations.require_current(services.database)
    wanted = Filter(status, is_superuser, after, limit)
    found = service.list_users(services.database, wanted)
    if is_json:
        click.echo(json.dumps([document_of(user, is_personal=is_personal) for user in found]))
        return
    for user in found:
        click.echo(line_of(user, is_personal=is_personal))


@users_group.command(
    "show", epilog=examples(f"users show {SOME_ID}", "users show ada@example.com --personal")
)
@the_user
@as_personal
@as_json
@with_services
def show_user(services: BackingServices, *, named: str, is_personal: bool, is_json: bool) -> None:
    """Show a user, without address and name. Exit 1 when there is none."""
    migrations.require_current(services.database)
    user, sessions = service.get_user(services.database, service.find_id(services.database, named))
    document = document_of(user, is_personal=is_personal) | {"sessions": sessions}
    click.echo(json.dumps(document) if is_json else lines_of(document))


@users_group.command(
    "log-out", epilog=examples("users log-out ada@example.com", f"users log-out {SOME_ID} --yes")
)
@the_user
@as_sure
@as_json
@with_services
def log_out(services: BackingServices, *, named: str, is_sure: bool, is_json: bool) -> None:
    """End all log-ins of a user, with their access tokens."""
    migrations.require_current(services.database)
    user_id = service.find_id(services.database, named)
    require_sure(f"End all log-ins of user {user_id}?", is_sure=is_sure)
    ended = end_sessions(services.database, user_id)
    document = {"id": str(user_id), "sessions": ended}
    click.echo(json.dumps(document) if is_json else f"Ended {ended} log-ins of user {user_id}")


@click.group("sessions", invoke_without_command=True)
@click.pass_context
def sessions_group(ctx: click.Context) -> None:
    """End log-ins."""
    require_command(ctx)


@sessions_group.command("end", epilog=examples("sessions end --all", "sessions end --all --yes"))
@click.option("--all", "is_all", is_flag=True, required=True, help="Of all users.")
@as_sure
@as_json
@with_services
def end_all(services: BackingServices, *, is_all: bool, is_sure: bool, is_json: bool) -> None:
    """End the log-ins of all users, with their access tokens: everybody must log in again."""
    migrations.require_current(services.database)
    require_sure("End the log-ins of all users?", is_sure=is_sure and is_all)
    ended = sum(service.end_all_sessions(services.database))
    click.echo(json.dumps({"sessions": ended}) if is_json else f"Ended {ended} log-ins")


for each in (*standing_commands.COMMANDS, *password_commands.COMMANDS):
    users_group.add_command(each)
COMMANDS = (users_group, sessions_group)
