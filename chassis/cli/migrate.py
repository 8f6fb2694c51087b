"""The command that migrates the schema."""

from __future__ import annotations

import json

import click

from chassis.backing_services import BackingServices
from chassis.cli.options import as_json, examples, with_services
from chassis.storage import migrations
from chassis.storage.database import DatabaseManager
from chassis.storage.migrations import NoWay, Way


@click.command(
    epilog=examples(
        "migrate", "migrate --check", "migrate --to 0004 --plan", "migrate --to 0004 --yes"
    )
)
@click.option("--check", "is_check", is_flag=True, help="Only tell: exit 1 when behind.")
@click.option("--plan", "is_plan", is_flag=True, help="Only print what would be done.")
@click.option("--to", "revision", metavar="REVISION", help="Not to the newest, but to this one.")
@click.option("--yes", "is_sure", is_flag=True, help="Go back, although this loses data.")
@as_json
@with_services
def migrate(  # noqa: PLR0913 - one argument for each option
    services: BackingServices,
    *,
    is_check: bool,
    is_plan: bool,
    revision: str | None,
    is_sure: bool,
    is_json: bool,
) -> None:
    """Bring the database schema up to date. Safe when many do so at once.

    With --to it may also go back, for the release before; stop what runs of this one first.
    """
    only_look = is_check or is_plan
    try:
        way = _migrate(services.database, revision, only_look=only_look, may_revert=is_sure)
    except NoWay as error:
        raise click.ClickException(str(error)) from error
    _show(way, only_look=only_look, is_json=is_json)
    if is_check and (way.applied or way.reverted):
        click.get_current_context().exit(1)


def _migrate(
    database: DatabaseManager, revision: str | None, *, only_look: bool, may_revert: bool
) -> Way:
    if revision is None:
        newest = migrations.pending if only_look else migrations.upgrade
        return Way(newest(database), [])
    if only_look:
        return migrations.way_to(database, revision)
    return migrations.move(database, revision, may_revert=may_revert)


def _show(way: Way, *, only_look: bool, is_json: bool) -> None:
    forth, back = ("pending", "to be reverted") if only_look else ("applied", "reverted")
    if is_json:
        steps = {forth: way.applied} | (
            {back.replace(" ", "_"): way.reverted} if way.reverted else {}
        )
        click.echo(json.dumps(steps))
        return
    lines = [f"{forth} {each}" for each in way.applied]
    lines += [f"{back} {each}" for each in way.reverted]
    click.echo("\n".join(lines) or "up to date")
