"""Commands about API keys."""

from __future__ import annotations

import json
from typing import get_args
from uuid import UUID

import click

from chassis.backing_services import BackingServices
from chassis.cli.group import require_command
from chassis.cli.options import SOME_ID, as_json, as_sure, examples, require_sure, with_services
from chassis.storage import migrations
from userservice.keys import service
from userservice.keys.queries import KeyRow
from userservice.keys.schemas import KeyCreate, KeyRead, KeyStatus
from userservice.scopes import Scope

SOME_KEY = SOME_ID.replace("-", "")


@click.group("api-keys", invoke_without_command=True)
@click.pass_context
def keys_group(ctx: click.Context) -> None:
    """Make, list and revoke API keys. KEY is an id: the part of a key between its underscores."""
    require_command(ctx)


@keys_group.command(
    epilog=examples(
        "api-keys create billing --scope users:read --scope users:write",
        "api-keys create crm --scope users:read --expires-at 2030-01-31T00:00:00Z --json",
    )
)
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    required=True,
    multiple=True,
    type=click.Choice([*map(str, Scope)]),
    help="Its work; once for each scope.",
)
@click.option("--expires-at", metavar="TIME", help="With its zone; else the key never expires.")
@as_json
@with_services
def create(
    services: BackingServices,
    *,
    name: str,
    scopes: tuple[str, ...],
    expires_at: str | None,
    is_json: bool,
) -> None:
    """Make a key and print it, which nothing does again. NAME is the service that gets it."""
    migrations.require_current(services.database)
    values = {"name": name, "scopes": [*scopes], "expires_at": expires_at}
    given = {member: value for member, value in values.items() if value is not None}
    row, key = service.create_key(services.database, KeyCreate.load(json.dumps(given).encode()))
    if is_json:
        click.echo(json.dumps(_document(row) | {"key": key}))
        return
    click.echo(f"Created API key {row.id.hex}, which is shown only now", err=True)
    click.echo(key)


@keys_group.command(
    "list", epilog=examples("api-keys list", "api-keys list --status active --json")
)
@click.option("--status", type=click.Choice(get_args(KeyStatus)), help="Only these; else all.")
@click.option("--after", metavar="KEY", type=click.UUID, help="Begin behind this key.")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 10_000))
@as_json
@with_services
def list_keys(
    services: BackingServices,
    *,
    status: str | None,
    after: UUID | None,
    limit: int,
    is_json: bool,
) -> None:
    """List keys in the order in which they were made, without the keys themselves."""
    migrations.require_current(services.database)
    found = service.list_keys(services.database, status=status, after=after, limit=limit)
    if is_json:
        click.echo(json.dumps([*map(_document, found)]))
        return
    for row in found:
        click.echo(_line(row))


@keys_group.command(
    epilog=examples(f"api-keys revoke {SOME_KEY}", f"api-keys revoke {SOME_KEY} --yes")
)
@click.argument("key_id", metavar="KEY", type=click.UUID)
@as_sure
@as_json
@with_services
def revoke(services: BackingServices, *, key_id: UUID, is_sure: bool, is_json: bool) -> None:
    """End a key for good, in all processes within KEY_CACHE_SECONDS. Exit 1 without such a key."""
    migrations.require_current(services.database)
    require_sure(f"Revoke API key {key_id.hex}?", is_sure=is_sure)
    service.revoke_key(services.database, key_id)
    document = {"id": key_id.hex, "status": "revoked"}
    click.echo(json.dumps(document) if is_json else f"Revoked API key {key_id.hex}")


COMMANDS = (keys_group,)


def _document(row: KeyRow) -> dict[str, object]:
    return KeyRead.model_validate(row, from_attributes=True).model_dump(mode="json")


def _line(row: KeyRow) -> str:
    end = row.revoked_at or row.expires_at
    until = end.isoformat(timespec="seconds") if end is not None else "-"
    return f"{row.id.hex}  {row.status}  {until}  {','.join(row.scopes)}  {row.name}"
