"""admin api-keys create, list and revoke."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from admin import AdminCommands, cli
from chassis.security import fingerprint
from tests.support.keys import expire, make_key, secret_of
from userservice.keys.service import list_keys
from userservice.scopes import Scope

CREATE = ("api-keys", "create", "billing", "--scope", "users:read", "--scope", "keys:manage")


@pytest.fixture
def run(config, services):
    """Call that runs a command on the test's database, in this process."""
    commands = AdminCommands(config, services)
    return lambda *arguments: CliRunner().invoke(cli, arguments, obj=commands)


def rows(database):
    return list_keys(database, status=None, after=None, limit=100)


def test_a_key_can_be_made_where_nobody_can_log_in(run, client, database):
    made = run(*CREATE)

    [row] = rows(database)
    key = made.stdout.rstrip("\n")
    assert made.exit_code == 0
    assert made.stderr == f"Created API key {row.id.hex}, which is shown only now\n"
    assert (row.name, row.scopes, row.created_by) == (
        "billing",
        ["keys:manage", "users:read"],
        None,
    )
    assert client.get("/users", headers={"X-API-Key": key}).status_code == 200


def test_a_machine_reads_the_key_with_all_that_is_known_of_it(run, service_client):
    made = run(*CREATE, "--expires-at", "2999-01-31T01:00:00+01:00", "--json")

    document = json.loads(made.stdout)
    assert document.pop("key").startswith(f"cua_{document['id']}_")
    assert document["expires_at"] == "2999-01-31T00:00:00Z"
    assert service_client.get("/api-keys").json["items"] == [document]


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (("billing",), 2, "Missing option '--scope'"),
        (("billing", "--scope", "users"), 2, "'users' is not one of"),
        ((" ", "--scope", "users:read"), 1, "Error: Name is required"),
        (
            ("billing", *["--scope", "users:read"] * 2),
            1,
            "Error: Scopes must not name a scope twice",
        ),
        (
            ("billing", "--scope", "users:read", "--expires-at", "2020-01-01T00:00:00Z"),
            1,
            "Error: Expires at must lie in the future",
        ),
        (
            ("billing", "--scope", "users:read", "--expires-at", "soon"),
            1,
            "Error: Expires at must be a time with its zone",
        ),
    ],
)
def test_a_key_that_breaks_a_rule_is_one_line_and_not_made(run, database, arguments, status, says):
    refused = run("api-keys", "create", *arguments)

    assert (refused.exit_code, refused.stdout) == (status, "")
    assert says in refused.stderr
    assert not rows(database)


def test_keys_are_listed_a_line_each_without_the_keys(run, database):
    active, expired = make_key(database, Scope.USERS_READ), make_key(database, *Scope, name="old")
    expire(database, expired)

    lines = run("api-keys", "list").stdout.splitlines()
    documents = json.loads(run("api-keys", "list", "--json").stdout)

    assert lines[0] == f"{active.row.id.hex}  active  -  users:read  billing"
    assert lines[1].startswith(f"{expired.row.id.hex}  expired  20")
    assert [each["status"] for each in documents] == ["active", "expired"]
    assert ids(run, "--status", "expired") == [expired.row.id.hex]
    assert ids(run, "--limit", "1") == [active.row.id.hex]
    assert ids(run, "--after", active.row.id.hex) == [expired.row.id.hex]
    for made in (active, expired):
        assert secret_of(made.key) not in f"{lines} {documents}"
        assert fingerprint(made.key.encode()) not in f"{lines} {documents}"


def ids(run, *options):
    return [each["id"] for each in json.loads(run("api-keys", "list", "--json", *options).stdout)]


def test_a_key_is_revoked_for_good_and_so_an_operator_is_asked(run, client, database):
    made = make_key(database, Scope.USERS_READ)

    asked = run("api-keys", "revoke", made.row.id.hex)
    before = rows(database)[0].status
    revoked = run("api-keys", "revoke", made.row.id.hex, "--yes", "--json")

    assert (asked.exit_code, before) == (2, "active")
    assert json.loads(revoked.stdout) == {"id": made.row.id.hex, "status": "revoked"}
    assert client.get("/users", headers={"X-API-Key": made.key}).status_code == 401


def test_a_key_that_is_not_there_is_one_line(run):
    refused = run("api-keys", "revoke", "0" * 32, "--yes")

    assert (refused.exit_code, refused.stdout) == (1, "")
    assert refused.stderr == "Error: API key not found\n"
