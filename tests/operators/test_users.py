"""admin users list, show and log-out; admin sessions end."""

from __future__ import annotations

import json
import os
import pty
import subprocess

import pytest
from click.testing import CliRunner
from sqlalchemy import update

from admin import AdminCommands, cli
from chassis.cli.options import SOME_ID
from chassis.storage.database import DatabaseManager
from config import AppConfig
from tests.support import processes
from tests.support.factories import begin_log_in, in_order, make_user
from tests.support.waiting import DEADLINE_SECONDS
from userservice.operators import service as operators
from userservice.sessions import service as sessions
from userservice.users import service
from userservice.users.queries import users


@pytest.fixture
def run(config, services):
    """Call that runs a command on the test's database, in this process."""
    commands = AdminCommands(config, services)
    return lambda *arguments: CliRunner().invoke(cli, arguments, obj=commands)


def change(database, user, **values):
    with database.connection() as connection:
        connection.execute(update(users).where(users.c.id == user.id).values(values))


@pytest.fixture
def everybody(database):
    """A user of each status: active, suspended, deleted, and a superuser."""
    made = in_order(make_user(database, name=f"Name {n}", is_superuser=n == 3) for n in range(4))
    change(database, made[1], suspended_at=made[1].created_at, suspension_reason="Sent spam")
    service.delete_user(database, made[2].id)
    return made


def listed(run, *options):
    return [each["id"] for each in json.loads(run("users", "list", "--json", *options).stdout)]


def test_users_are_listed_in_the_order_of_their_registration(run, everybody):
    ids = [str(each.id) for each in everybody]

    assert listed(run) == [ids[0], ids[1], ids[3]]
    assert listed(run, "--status", "active") == [ids[0], ids[3]]
    assert listed(run, "--status", "suspended") == [ids[1]]
    assert listed(run, "--status", "deleted") == [ids[2]]
    assert listed(run, "--superusers") == [ids[3]]
    assert listed(run, "--limit", "1") == [ids[0]]
    assert listed(run, "--limit", "1", "--after", ids[0]) == [ids[1]]


def test_a_line_tells_status_and_rights(run, everybody):
    result = run("users", "list")

    assert (result.exit_code, result.stderr) == (0, "")
    assert [line.split()[:3] for line in result.stdout.splitlines()] == [
        [str(everybody[0].id), "active", "user"],
        [str(everybody[1].id), "suspended", "user"],
        [str(everybody[3].id), "active", "superuser"],
    ]


@pytest.mark.parametrize("options", [[], ["--json"]], ids=str)
@pytest.mark.parametrize("command", ["list", "show"])
def test_addresses_and_names_are_shown_where_they_are_asked_for(run, everybody, command, options):
    named = [str(everybody[1].id)] if command == "show" else []
    personal = (everybody[1].email, everybody[1].name)

    plain = run("users", command, *named, *options).stdout
    whole = run("users", command, *named, *options, "--personal").stdout

    assert not any(text in plain for text in (*personal, "Sent spam"))
    assert all(text in whole for text in personal)


def test_a_user_is_shown_with_all_that_an_operator_needs(run, database, config):
    user = make_user(database, password="a long enough sentence")
    change(database, user, verified_key=user.email, pending_email="n@example.com", roles=["a", "b"])
    begin_log_in(database, config, user)

    shown = json.loads(run("users", "show", user.email.upper(), "--json").stdout)

    told = ("id", "status", "is_superuser", "has_password", "email_verified", "roles", "sessions")
    expected = [str(user.id), "active", False, True, True, ["a", "b"], 1]
    assert [shown[name] for name in told] == expected
    assert shown["has_pending_email"] is True
    assert "n@example.com" not in json.dumps(shown)
    assert not any("hash" in name or "key" in name or "stamp" in name for name in shown)


def test_lines_say_the_same_to_people(run, everybody):
    lines = run("users", "show", str(everybody[1].id), "--personal").stdout.splitlines()

    assert {"status: suspended", "roles: -", "is_superuser: false"} <= set(lines)
    assert "suspension_reason: Sent spam" in lines


def test_an_address_that_a_new_owner_has_changed_is_not_verified(run, database):
    user = make_user(database)
    change(database, user, verified_key="former@example.com")

    shown = json.loads(run("users", "show", str(user.id), "--json").stdout)

    assert shown["email_verified"] is False


def test_a_deleted_user_is_shown_by_id_and_not_by_address(run, everybody):
    deleted = everybody[2]

    by_id, by_address = run("users", "show", str(deleted.id)), run("users", "show", deleted.email)

    assert "status: deleted" in by_id.stdout
    assert (by_address.exit_code, by_address.stderr) == (1, "Error: User not found\n")


@pytest.mark.parametrize("named", [SOME_ID, "nobody@example.com", "no-id"])
@pytest.mark.parametrize("command", [["show"], ["log-out", "--yes"]], ids=str)
def test_nobody_is_not_found(run, named, command):
    result = run("users", *command, named)

    assert (result.exit_code, result.stdout, result.stderr) == (1, "", "Error: User not found\n")


def test_all_log_ins_of_a_user_end(run, database, config):
    user, other = make_user(database), make_user(database)
    for each in (user, user, other):
        begin_log_in(database, config, each)

    result = run("users", "log-out", user.email, "--yes")
    again = run("users", "log-out", str(user.id), "--yes", "--json")

    assert (result.exit_code, result.output) == (0, f"Ended 2 log-ins of user {user.id}\n")
    assert json.loads(again.stdout) == {"id": str(user.id), "sessions": 0}
    assert sessions.list_sessions(database, user.id) == []
    assert len(sessions.list_sessions(database, other.id)) == 1


def test_the_log_ins_of_all_users_end_batch_by_batch(run, database, config, client, monkeypatch):
    monkeypatch.setattr(operators, "BATCH_USERS", 2)
    made = [make_user(database) for _ in range(5)]
    pairs = [begin_log_in(database, config, each) for each in (*made, made[0])]
    bearers = [{"Authorization": f"Bearer {each.access_token}"} for each in pairs]
    assert {client.get("/users/me", headers=each).status_code for each in bearers} == {200}

    result = run("sessions", "end", "--all", "--yes")
    again = run("sessions", "end", "--all", "--yes", "--json")

    assert (result.exit_code, result.output) == (0, "Ended 6 log-ins\n")
    assert json.loads(again.stdout) == {"sessions": 0}
    assert {client.get("/users/me", headers=each).status_code for each in bearers} == {401}
    for pair in pairs:
        form = {"grant_type": "refresh_token", "refresh_token": pair.refresh_token}
        assert client.post("/auth/token", data=form).status_code == 400


def test_the_end_of_all_log_ins_is_that_of_tokens_without_one(run, database, config):
    user = make_user(database)
    begin_log_in(database, config, user)

    run("sessions", "end", "--all", "--yes")

    with database.connection() as connection:
        statement = users.select().where(users.c.id == user.id)
        assert connection.execute(statement).one().sessions_ended_at is not None


@pytest.mark.parametrize(
    "command", [["sessions", "end", "--all"], ["users", "log-out", "{address}"]], ids=str
)
def test_nothing_that_cannot_be_undone_is_done_unasked(run, database, config, command):
    user = make_user(database)
    begin_log_in(database, config, user)

    result = run(*(word.format(address=user.email) for word in command))

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.endswith("Error: There is no terminal to ask at: use --yes\n")
    assert len(sessions.list_sessions(database, user.id)) == 1


@pytest.mark.parametrize("arguments", [["end"], ["end", "--yes"], []], ids=str)
def test_sessions_of_all_are_named(run, arguments):
    assert run("sessions", *arguments).exit_code == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("answer", "status", "left"), [(b"y\n", 0, 0), (b"n\n", 1, 1), (b"\n", 1, 1)], ids=repr
)
def test_the_answer_at_a_terminal_decides(sqlite_url, answer, status, left):
    database = DatabaseManager(sqlite_url).initialize()
    user = make_user(database)
    begin_log_in(database, AppConfig(database_url=sqlite_url), user)
    master, terminal = pty.openpty()

    with subprocess.Popen(
        [*processes.ADMIN, "sessions", "end", "--all"],
        cwd=processes.ROOT,
        env=processes.environment({"DATABASE_URL": sqlite_url, "REDIS_URL": ""}),
        stdin=terminal,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        os.close(terminal)
        os.write(master, answer)
        _, errors = process.communicate(timeout=DEADLINE_SECONDS)
        os.close(master)

    assert process.returncode == status, errors
    assert b"End the log-ins of all users? [y/N]: " in errors
    assert len(sessions.list_sessions(database, user.id)) == left
    database.close()
