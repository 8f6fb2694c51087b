"""Each command that changes something leaves its row; the others have a reason to leave none."""

from __future__ import annotations

import json

import click
import pytest
from click.testing import CliRunner
from sqlalchemy import update

from admin import cli
from chassis.background import outbox, upkeep
from chassis.background.outbox import messages
from chassis.storage import trail
from chassis.storage.ids import uuid7
from tests.support.deeds import deeds
from tests.support.factories import begin_log_in, make_user
from tests.trail.work import DEEDS, PASSWORD, World
from userservice.actions import Action
from userservice.logins.queries import tokens

READS = "changes nothing"
# Command -> the reason why it has no row here.
ELSEWHERE = {
    **dict.fromkeys(("check", "config", "completion", "export-metrics"), READS),
    **dict.fromkeys(("users list", "users show", "jobs list", "outbox list", "outbox show"), READS),
    **dict.fromkeys(("audit list", "audit export"), READS),
    "migrate": "a schema is nobody's, and the table of the trail comes by it",
    **dict.fromkeys(("api-keys create", "api-keys revoke"), "about keys, see tests/keys"),
    **dict.fromkeys(("api-keys list", "keys show"), READS),
    "keys generate": "writes a file, and nothing that is stored; the operator hands the key over",
}
BEGUN = {Action.USERS_EXPORTED, Action.USERS_BACKED_UP, Action.RECOVERY_PRINTED}


def tree(group: click.Group, *path: str) -> set[str]:
    """Return all commands below a group."""
    found = set()
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            found |= tree(command, *path, name)
        else:
            found.add(" ".join((*path, name)))
    return found


@pytest.fixture
def world(config, services, tmp_path):
    return World(config, services, tmp_path)


def test_every_command_is_in_a_table():
    commands = tree(cli)
    recorded = {name.partition(" --")[0] for name in DEEDS}

    assert commands <= recorded | set(ELSEWHERE)
    assert recorded <= commands
    assert not recorded & set(ELSEWHERE)


def test_the_deeds_of_the_chassis_have_the_names_that_it_gives_them():
    assert Action.MESSAGES_REQUEUED == upkeep.REQUEUED
    assert Action.AUDIT_PURGED == trail.PURGED


def work_of(world, name):
    """Prepare a command; return its action, and its words, and forget the trail."""
    action, prepare = DEEDS[name]
    work = prepare(world)
    return action, (*name.partition(" --")[0].split(), *work.arguments), work


@pytest.mark.parametrize("name", DEEDS)
def test_a_command_leaves_a_row_of_an_operator(world, name):
    action, words, work = work_of(world, name)
    known = {each.id for each in deeds(world.database)}

    world.run(*words, text=work.text)

    (row,) = (each for each in deeds(world.database) if each.id not in known)
    assert (row.action, row.actor_kind, row.actor_id, row.source) == (
        action,
        "operator",
        None,
        "command",
    )
    assert row.outcome == ("begun" if action in BEGUN else "done")
    assert work.target in {row.target, ""}
    assert "@" not in json.dumps([str(each) for each in row])


AGAIN = [name for name in DEEDS if name.split()[-1] in {"reinstate", "promote", "demote"}]
AGAIN += ["cleanup", "mailboxes", "import --restore"]


@pytest.mark.parametrize("name", AGAIN)
def test_a_command_that_changes_nothing_leaves_no_row(world, name):
    _, words, work = work_of(world, name)
    world.run(*words, text=work.text)
    known = deeds(world.database)

    world.run(*words, text=work.text)

    assert deeds(world.database) == known


def test_an_invitation_of_a_new_user_is_two_deeds(world):
    world.run("users", "invite", "grace@example.com", "--name", "Grace")

    rows = deeds(world.database, Action.USER_CREATED, Action.RECOVERY_SENT)[-2:]
    assert {each.action for each in rows} == {Action.USER_CREATED, Action.RECOVERY_SENT}
    assert len({each.target for each in rows}) == 1


def test_a_command_that_is_refused_leaves_no_row(world):
    known = deeds(world.database)

    refused = [
        CliRunner().invoke(cli, arguments, obj=world.commands)
        for arguments in (
            ["users", "suspend", str(uuid7()), "--yes"],
            ["outbox", "requeue", str(uuid7())],
            ["jobs", "cancel", str(uuid7())],
            ["import", str(world.file)],
            ["createsuperuser", "--email", "nobody", "--password", PASSWORD],
        )
    ]

    assert all(each.exit_code for each in refused)
    assert deeds(world.database) == known


def test_work_in_batches_has_a_row_for_each(world, monkeypatch):
    monkeypatch.setattr("userservice.operators.service.BATCH_USERS", 1)
    for _ in range(3):
        user = make_user(world.database)
        begin_log_in(world.database, world.config, user)

    world.run("sessions", "end", "--all", "--yes")

    assert len(deeds(world.database, Action.USERS_SESSIONS_ENDED)) == 3
    with world.database.connection() as connection:
        assert connection.execute(tokens.select()).all() == []


def test_several_messages_that_are_tried_again_are_one_deed(world):
    rows = [outbox.new_message("user.registered", {"user_id": world.id}) for _ in range(2)]
    with world.database.transaction() as connection:
        connection.execute(outbox.INSERT, rows)
        connection.execute(update(messages).values(status="abandoned"))

    world.run("outbox", "requeue", "--all")

    (row,) = deeds(world.database, Action.MESSAGES_REQUEUED)
    assert row.target is None
