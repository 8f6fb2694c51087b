"""admin users suspend, reinstate, promote, demote and erase."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from admin import AdminCommands, cli
from chassis.cli.options import SOME_ID
from tests.support.factories import begin_log_in, make_user
from userservice.sessions.service import list_sessions

PASSWORD = "a long enough sentence"


@pytest.fixture
def run(config, services):
    """Call that runs a command about users on the test's database, in this process."""
    commands = AdminCommands(config, services)
    return lambda *arguments: CliRunner().invoke(cli, ["users", *arguments], obj=commands)


@pytest.fixture
def user(database):
    """A user who could log in."""
    return make_user(database, password=PASSWORD)


def log_in(client, user):
    form = {"grant_type": "password", "username": user.email, "password": PASSWORD}
    return client.post("/auth/token", data=form).status_code


def shown(run, user):
    return json.loads(run("show", str(user.id), "--personal", "--json").stdout)


def test_a_suspended_user_is_out_until_reinstated(run, client, user, database, config):
    begin_log_in(database, config, user)

    suspended = run("suspend", user.email, "--reason", "Sent spam", "--yes")

    assert (suspended.exit_code, suspended.output) == (0, f"Suspended user {user.id}\n")
    assert log_in(client, user) == 400
    assert list_sessions(database, user.id) == []
    told = shown(run, user)
    assert (told["status"], told["suspension_reason"]) == ("suspended", "Sent spam")

    reinstated = run("reinstate", str(user.id), "--json")

    assert json.loads(reinstated.stdout) == {"id": str(user.id), "status": "active"}
    assert log_in(client, user) == 200


def test_a_suspended_user_is_found_by_address(run, user):
    run("suspend", str(user.id), "--yes")

    assert run("reinstate", user.email.upper()).exit_code == 0


@pytest.mark.parametrize("reason", ["x" * 201, "two\nlines"], ids=["long", "lines"])
def test_a_reason_that_breaks_a_rule_suspends_nobody(run, user, reason):
    result = run("suspend", str(user.id), "--yes", "--reason", reason)

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: Reason must ")
    assert shown(run, user)["status"] == "active"


def test_rights_are_given_and_taken(run, user, database):
    make_user(database, is_superuser=True, password=PASSWORD)

    promoted, again = run("promote", user.email), run("promote", user.email, "--json")
    has_rights = shown(run, user)["is_superuser"]
    demoted = run("demote", str(user.id))

    assert promoted.output == f"User {user.id} is a superuser\n"
    assert json.loads(again.stdout) == {"id": str(user.id), "is_superuser": True}
    assert has_rights
    assert (demoted.exit_code, demoted.output) == (0, f"User {user.id} is no superuser\n")
    assert not shown(run, user)["is_superuser"]


@pytest.mark.parametrize("command", [("demote",), ("suspend", "--yes"), ("erase", "--yes")])
def test_the_last_superuser_stays(run, database, command):
    root = make_user(database, is_superuser=True, password=PASSWORD)

    result = run(*command, root.email)

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Error: No other superuser could log in\n"
    assert shown(run, root)["is_superuser"]


def test_a_user_is_erased(run, user):
    result = run("erase", user.email, "--yes", "--json")

    assert json.loads(result.stdout) == {"id": str(user.id), "erased": True}
    assert run("show", str(user.id)).exit_code == 1


def test_a_deleted_user_is_erased_by_id(run, user, service_client):
    service_client.delete(f"/users/{user.id}")

    assert run("erase", str(user.id), "--yes").output == f"Erased user {user.id}\n"
    assert run("erase", str(user.id), "--yes").exit_code == 1


COMMANDS = [("suspend", "--yes"), ("reinstate",), ("promote",), ("demote",), ("erase", "--yes")]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("named", [SOME_ID, "nobody@example.com"])
def test_nobody_is_not_found(run, command, named):
    result = run(*command, named)

    assert (result.exit_code, result.stdout, result.stderr) == (1, "", "Error: User not found\n")


@pytest.mark.parametrize("command", ["suspend", "erase"])
def test_nothing_that_cannot_be_undone_is_done_unasked(run, user, command):
    result = run(command, str(user.id))

    assert (result.exit_code, result.stdout) == (2, "")
    assert "use --yes" in result.stderr
    assert shown(run, user)["status"] == "active"
