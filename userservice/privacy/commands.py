"""Commands about a person's data, in this process."""

from __future__ import annotations

import json
from typing import BinaryIO

import click

from chassis.backing_services import BackingServices
from chassis.cli.options import as_json, as_sure, examples, require_sure, with_services
from chassis.cli.streams import InputFile
from chassis.storage import migrations
from userservice.privacy import service
from userservice.privacy.ledger import read_ids


@click.command(
    "erase",
    epilog=examples("erase --replay erased.txt", "erase --replay - --yes --json < app.log"),
)
@click.option(
    "--replay",
    "file",
    type=InputFile(),
    required=True,
    help="Ids of users, one a line, or log lines; - is standard input.",
)
@as_sure
@as_json
@with_services
def erase_users(services: BackingServices, *, file: BinaryIO, is_sure: bool, is_json: bool) -> None:
    """Erase users again whom a restored backup has brought back. Exit 1 when one was spared.

    The last superuser who could log in is spared. All lines are read before anything is erased.
    """
    migrations.require_current(services.database)
    ids = list(dict.fromkeys(read_ids(file)))
    require_sure(f"Erase {len(ids)} users for good?", is_sure=is_sure)
    done = service.replay(services.database, ids)
    spared = [str(each) for each in done.spared]
    told = {"erased": done.erased, "absent": done.absent, "spared": spared}
    lines = [f"User {each} is the last superuser, and was spared" for each in spared]
    text = "\n".join([*lines, f"Erased {done.erased} users, {done.absent} were gone already"])
    click.echo(json.dumps(told) if is_json else text)
    if spared:
        click.get_current_context().exit(1)


COMMANDS = (erase_users,)
