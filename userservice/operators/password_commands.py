"""Commands about passwords of users, for the group of admin users."""

from __future__ import annotations

import json
from uuid import UUID

import click

from chassis.backing_services import BackingServices
from chassis.cli.options import SOME_ID, as_json, examples, with_services
from chassis.cli.passwords import ask_for_password, read_password
from chassis.storage import migrations
from userservice.operators.service import find_id
from userservice.passwords import recovery
from userservice.passwords import service as passwords
from userservice.users import registration
from userservice.users.errors import UserNotFound
from userservice.users.schemas import UserCreate

the_user = click.argument("named", metavar="USER")


@click.command(
    epilog=examples("users invite ada@example.com --name 'Ada Lovelace'", f"users invite {SOME_ID}")
)
@the_user
@click.option("--name", help="Register the user by this name if nobody has the address.")
@as_json
@with_services
def invite(services: BackingServices, *, named: str, name: str | None, is_json: bool) -> None:
    """E-mail a user a link to a password: an invitation, or a reset where there is one.

    A worker sends it, if EMAIL_SERVICE_URL is set. The present password works meanwhile.
    """
    migrations.require_current(services.database)
    user_id, is_new = _find_or_register(services, named, name)
    recovery.recover(services, user_id)
    document = {"id": str(user_id), "created": is_new}
    text = f"Queued an e-mail for {'the new ' if is_new else ''}user {user_id}"
    click.echo(json.dumps(document) if is_json else text)


@click.command(
    "set-password",
    epilog=examples(
        "users set-password ada@example.com",
        f"users set-password {SOME_ID} --password-stdin --json < password",
    ),
)
@the_user
@click.option("--password-stdin", "is_stdin", is_flag=True, help="Read it from standard input.")
@as_json
@with_services
def set_password(services: BackingServices, *, named: str, is_stdin: bool, is_json: bool) -> None:
    """Give a user a new password, prompted for. Ends all log-ins and links, and tells the user."""
    migrations.require_current(services.database)
    user_id = find_id(services.database, named)
    password = read_password(None) if is_stdin else ask_for_password("use --password-stdin")
    passwords.set_password(services, user_id, password)
    document = {"id": str(user_id)}
    click.echo(json.dumps(document) if is_json else f"Set the password of user {user_id}")


@click.command(
    "reset-link",
    epilog=examples("users reset-link ada@example.com", f"users reset-link {SOME_ID} --json"),
)
@the_user
@as_json
@with_services
def print_link(services: BackingServices, *, named: str, is_json: bool) -> None:
    """Print a link to a new password, to be handed over; keep it secret until then.

    It holds for RESET_TOKEN_SECONDS, works once, and verifies no address.
    """
    migrations.require_current(services.database)
    user_id = find_id(services.database, named)
    link = recovery.make_printed_link(services, user_id)
    click.echo(json.dumps({"id": str(user_id), "link": link}) if is_json else link)


COMMANDS = (invite, set_password, print_link)


def _find_or_register(services: BackingServices, named: str, name: str | None) -> tuple[UUID, bool]:
    """Return the id of a user, and whether the user is new."""
    try:
        return find_id(services.database, named), False
    except UserNotFound:
        if name is None:
            raise
    document = {"email": named, "name": name, "source": "admin"}
    new = UserCreate.load(json.dumps(document).encode())
    return registration.register_user(services.database, services.hasher, new).id, True
