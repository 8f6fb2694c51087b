"""Commands about users, in this process."""

from __future__ import annotations

import json
from collections.abc import Sequence

import click

from chassis.backing_services import BackingServices
from chassis.cli.options import as_json, examples, with_services
from chassis.storage import migrations
from userservice.users import mailboxes
from userservice.users.mailboxes import SharedMailbox


@click.command("mailboxes", epilog=examples("mailboxes", "mailboxes --json"))
@as_json
@with_services
def give_mailbox_keys(services: BackingServices, *, is_json: bool) -> None:
    """Give users of older releases the keys of their mailboxes. Exit 1 when users share one.

    Of users who share a mailbox, change or delete all but one, and run this again.
    """
    migrations.require_current(services.database)
    given = list(mailboxes.give_keys(services.database))
    keys = sum(each.keys for each in given)
    shared = [each for batch in given for each in batch.shared]
    click.echo(_document(keys, shared) if is_json else _sentences(keys, shared))
    if shared:
        click.get_current_context().exit(1)


COMMANDS = (give_mailbox_keys,)


def _document(keys: int, shared: Sequence[SharedMailbox]) -> str:
    pairs = [{"user": str(each.user_id), "owner": str(each.owner_id)} for each in shared]
    return json.dumps({"keys": keys, "shared": pairs})


def _sentences(keys: int, shared: Sequence[SharedMailbox]) -> str:
    lines = [f"User {each.user_id} shares the mailbox of {each.owner_id}" for each in shared]
    return "\n".join([*lines, f"Gave {keys} users a key, {len(shared)} share a mailbox"])
