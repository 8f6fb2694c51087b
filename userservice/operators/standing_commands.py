"""Commands about the standing of users, for the group of admin users."""

from __future__ import annotations

import json
from collections.abc import Mapping

import click

from chassis.backing_services import BackingServices
from chassis.cli.options import (
    SOME_ID,
    as_json,
    as_sure,
    examples,
    require_sure,
    with_services,
)
from chassis.storage import migrations
from userservice.operators.service import find_id
from userservice.privacy import service as privacy
from userservice.standing import rights
from userservice.standing import service as standing
from userservice.standing.schemas import Suspension

the_user = click.argument("named", metavar="USER")


@click.command(
    epilog=examples(
        "users suspend ada@example.com --reason 'Sent spam'", f"users suspend {SOME_ID} --yes"
    )
)
@the_user
@click.option("--reason", help="For administrators alone.")
@as_sure
@as_json
@with_services
def suspend(
    services: BackingServices, *, named: str, reason: str | None, is_sure: bool, is_json: bool
) -> None:
    """Keep a user out until reinstated. Ends log-ins and links; the password stays.

    Of a user who is suspended already only the reason changes.
    """
    migrations.require_current(services.database)
    why = Suspension.load_values({"reason": reason} if reason else {}).reason
    user_id = find_id(services.database, named)
    require_sure(f"Suspend user {user_id}, and end all log-ins and links?", is_sure=is_sure)
    standing.suspend(services.database, user_id, why)
    _tell({"id": str(user_id), "status": "suspended"}, f"Suspended user {user_id}", is_json=is_json)


@click.command(
    epilog=examples("users reinstate ada@example.com", f"users reinstate {SOME_ID} --json")
)
@the_user
@as_json
@with_services
def reinstate(services: BackingServices, *, named: str, is_json: bool) -> None:
    """Let a suspended user in again, with the password of before."""
    migrations.require_current(services.database)
    user_id = find_id(services.database, named)
    standing.reinstate(services.database, user_id)
    _tell({"id": str(user_id), "status": "active"}, f"Reinstated user {user_id}", is_json=is_json)


@click.command(epilog=examples("users promote ada@example.com", f"users promote {SOME_ID} --json"))
@the_user
@as_json
@with_services
def promote(services: BackingServices, *, named: str, is_json: bool) -> None:
    """Make a user a superuser, who may administer others."""
    migrations.require_current(services.database)
    user_id = find_id(services.database, named)
    rights.promote(services.database, user_id)
    told = {"id": str(user_id), "is_superuser": True}
    _tell(told, f"User {user_id} is a superuser", is_json=is_json)


@click.command(epilog=examples("users demote ada@example.com", f"users demote {SOME_ID} --json"))
@the_user
@as_json
@with_services
def demote(services: BackingServices, *, named: str, is_json: bool) -> None:
    """Take the rights of a superuser. Exit 1 when no other superuser could log in."""
    migrations.require_current(services.database)
    user_id = find_id(services.database, named)
    rights.demote(services.database, user_id)
    told = {"id": str(user_id), "is_superuser": False}
    _tell(told, f"User {user_id} is no superuser", is_json=is_json)


@click.command(epilog=examples(f"users erase {SOME_ID}", "users erase ada@example.com --yes"))
@the_user
@as_sure
@as_json
@with_services
def erase(services: BackingServices, *, named: str, is_sure: bool, is_json: bool) -> None:
    """Remove at once all that is stored of a user, who may be deleted already."""
    migrations.require_current(services.database)
    user_id = find_id(services.database, named)
    require_sure(f"Erase user {user_id} for good?", is_sure=is_sure)
    privacy.erase(services.database, user_id)
    _tell({"id": str(user_id), "erased": True}, f"Erased user {user_id}", is_json=is_json)


COMMANDS = (suspend, reinstate, promote, demote, erase)


def _tell(document: Mapping[str, object], text: str, *, is_json: bool) -> None:
    click.echo(json.dumps(document) if is_json else text)
