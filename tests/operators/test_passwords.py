"""admin users invite, set-password and reset-link."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner
from sqlalchemy import select

from admin import AdminCommands, cli
from chassis.background import outbox
from chassis.cli.options import SOME_ID
from chassis.storage.database import DatabaseManager
from tests.support import processes
from tests.support.factories import make_user
from tests.support.passwords import NEW, OLD, row_of
from tests.support.waiting import DEADLINE_SECONDS
from userservice.passwords.service import PASSWORD_CHANGED
from userservice.standing.service import suspend

# A prompt reads the terminal that controls its process; a test has none, and must not fork.
ON_A_TERMINAL = """
import os, pty, sys
sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))
"""


@pytest.fixture
def run(config, services):
    """Call that runs a command about users on the test's database, in this process."""
    commands = AdminCommands(config, services)
    return lambda *arguments, **options: CliRunner().invoke(
        cli, ["users", *arguments], obj=commands, **options
    )


@pytest.fixture
def user(database):
    """A user with a password."""
    return make_user(database, password=OLD)


def log_in(client, email, password):
    form = {"grant_type": "password", "username": email, "password": password}
    return client.post("/auth/token", data=form).status_code


def queued(services, user_id):
    """Return topic and purpose of the messages about a user."""
    with services.database.connection() as connection:
        columns = (outbox.messages.c.topic, outbox.messages.c.payload)
        rows = connection.execute(select(*columns).order_by(outbox.messages.c.id)).all()
    mine = [row for row in rows if row.payload["user_id"] == str(user_id)]
    return [(row.topic, row.payload.get("purpose")) for row in mine]


def test_a_password_is_read_from_standard_input(run, client, user):
    result = run("set-password", user.email, "--password-stdin", input=f"{NEW}\nmore\n")

    assert (result.exit_code, result.output) == (0, f"Set the password of user {user.id}\n")
    assert log_in(client, user.email, OLD) == 400
    assert log_in(client, user.email, NEW) == 200


def test_the_user_is_told_of_a_new_password(run, services, user):
    result = run("set-password", str(user.id), "--password-stdin", "--json", input=NEW)

    assert json.loads(result.stdout) == {"id": str(user.id)}
    assert (PASSWORD_CHANGED, None) in queued(services, user.id)


@pytest.mark.parametrize("weak", ["short", "password123", ""])
def test_a_weak_password_is_refused(run, client, user, weak):
    result = run("set-password", str(user.id), "--password-stdin", input=weak)

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: New password ")
    assert not weak or weak not in result.stderr
    assert log_in(client, user.email, OLD) == 200


@pytest.mark.parametrize("arguments", [[NEW], ["--password", NEW]], ids=["argument", "option"])
def test_a_password_is_no_argument(run, client, user, arguments):
    result = run("set-password", str(user.id), *arguments)

    assert result.exit_code == 2
    assert log_in(client, user.email, OLD) == 200


@pytest.mark.slow
def test_a_password_is_prompted_for_twice_and_not_shown(sqlite_url):
    database = DatabaseManager(sqlite_url).initialize()
    user = make_user(database)
    database.close()

    with subprocess.Popen(
        [
            sys.executable,
            "-c",
            ON_A_TERMINAL,
            *processes.ADMIN,
            "users",
            "set-password",
            user.email,
        ],
        cwd=processes.ROOT,
        env=processes.environment({"DATABASE_URL": sqlite_url, "REDIS_URL": ""}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        shown = b""
        for prompt in (b"Password: ", b"Repeat for confirmation: "):
            while not shown.endswith(prompt):
                piece = process.stdout.read(1024)
                assert piece, shown
                shown += piece
            process.stdin.write(NEW.encode() + b"\n")
        shown += process.communicate(timeout=DEADLINE_SECONDS)[0]

    assert process.returncode == 0, shown
    assert NEW.encode() not in shown
    assert b"Set the password of user" in shown


def test_without_a_terminal_the_way_to_give_a_password_is_said(sqlite_url):
    database = DatabaseManager(sqlite_url).initialize()
    user = make_user(database)
    database.close()

    result = subprocess.run(
        [*processes.ADMIN, "users", "set-password", str(user.id)],
        cwd=processes.ROOT,
        env=processes.environment({"DATABASE_URL": sqlite_url, "REDIS_URL": ""}),
        input="",
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        start_new_session=True,
        check=False,
    )

    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.endswith("Error: There is no terminal to ask at: use --password-stdin\n")


def test_a_link_is_printed_that_works_once(run, client, services, user):
    printed = run("reset-link", user.email)
    again = json.loads(run("reset-link", str(user.id), "--json").stdout)

    page, _, token = printed.stdout.strip().partition("#")
    assert (printed.exit_code, page) == (0, "http://localhost:8080/account")
    assert again["id"] == str(user.id)
    body = {"token": token, "new_password": NEW}
    assert client.post("/auth/password/reset", json=body).status_code == 204
    assert client.post("/auth/password/reset", json=body).status_code == 400
    assert log_in(client, user.email, NEW) == 200
    assert row_of(services, user).verified_key is None


def test_a_user_without_a_password_is_invited(run, services, database):
    user = make_user(database)

    result = run("invite", user.email)

    assert (result.exit_code, result.output) == (0, f"Queued an e-mail for user {user.id}\n")
    assert ("user.recovery_requested", "invite") in queued(services, user.id)


def test_a_user_with_a_password_gets_a_link_to_another(run, services, user):
    result = run("invite", str(user.id), "--json", "--name", "Nobody new")

    assert json.loads(result.stdout) == {"id": str(user.id), "created": False}
    assert ("user.recovery_requested", "reset") in queued(services, user.id)


def test_somebody_new_is_registered_with_a_name(run, services, service_client):
    result = json.loads(run("invite", "Ada@example.com", "--name", "Ada", "--json").stdout)

    assert result["created"] is True
    registered = service_client.get(f"/users/{result['id']}").json
    assert (registered["email"], registered["name"]) == ("Ada@example.com", "Ada")
    assert ("user.recovery_requested", "invite") in queued(services, result["id"])


@pytest.mark.parametrize(
    ("named", "name", "reason"),
    [
        ("nobody@example.com", None, "User not found"),
        (SOME_ID, "Ada", "User not found"),
        ("no address", "Ada", "Email must be a valid e-mail address"),
    ],
)
def test_nobody_is_invited(run, service_client, named, name, reason):
    result = run("invite", named, *(("--name", name) if name else ()))

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"Error: {reason}\n"
    assert service_client.get("/users").json["items"] == []


@pytest.mark.parametrize(
    "command", [("invite",), ("reset-link",), ("set-password", "--password-stdin")]
)
def test_a_suspended_user_gets_no_password(run, services, user, command):
    suspend(services.database, user.id)

    result = run(*command, user.email, input=NEW)

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Error: User is suspended\n"
