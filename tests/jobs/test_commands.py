"""admin jobs: imports are listed and cancelled."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from admin import AdminCommands, cli
from chassis.storage.ids import uuid7
from userservice.jobs import service, uploads
from userservice.jobs.models import UploadFormat


@pytest.fixture
def run(config, services):
    """Call that runs a command on the test's database, in this process."""
    commands = AdminCommands(config, services)
    return lambda *arguments: CliRunner().invoke(cli, ["jobs", *arguments], obj=commands)


def queue(database):
    return uploads.start_import(database, UploadFormat.NDJSON, [b'{"email":"ada@example.com"}\n'])


def test_imports_are_listed_newest_first_and_without_what_they_carry(run, database):
    # In the order of ids: those of one millisecond are in none.
    ids = sorted((str(queue(database).id) for _ in range(3)), reverse=True)

    text, machine = run("list"), run("list", "--json")

    assert (text.exit_code, text.stderr) == (0, "")
    assert [line.split()[:2] for line in text.stdout.splitlines()] == [
        [each, "queued"] for each in ids
    ]
    assert [row["id"] for row in json.loads(machine.stdout)] == ids
    assert "ada@example.com" not in text.stdout + machine.stdout


def test_a_list_is_of_one_state_and_no_longer_than_asked_for(run, database):
    jobs = [queue(database) for _ in range(3)]
    service.cancel_job(database, jobs[0].id)

    cancelled = json.loads(run("list", "--state", "cancelled", "--json").stdout)
    newest = json.loads(run("list", "--limit", "1", "--json").stdout)

    assert [row["id"] for row in cancelled] == [str(jobs[0].id)]
    assert [row["id"] for row in newest] == [max(str(each.id) for each in jobs)]
    assert json.loads(run("list", "--state", "failed", "--json").stdout) == []


def test_an_import_is_cancelled(run, database):
    job = queue(database)

    result = run("cancel", str(job.id))

    assert (result.exit_code, result.output) == (0, f"Cancelled import {job.id}\n")
    assert service.get_job(database, job.id)[0].state == "cancelled"


def test_an_import_that_is_over_cannot_be_cancelled(run, config, services):
    commands = AdminCommands(config, services)
    done = CliRunner().invoke(cli, ["import", "-", "--json"], obj=commands, input=b"")
    job_id = json.loads(done.stdout)["job"]

    result = run("cancel", job_id)

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"Error: Import {job_id} is over: succeeded\n"


def test_an_import_that_is_not_there_cannot_be_cancelled(run):
    result = run("cancel", str(uuid7()))

    assert (result.exit_code, result.stdout, result.stderr) == (1, "", "Error: Job not found\n")


@pytest.mark.parametrize("arguments", [(), ("cancel",), ("cancel", "x"), ("list", "--state", "x")])
def test_a_command_that_makes_no_sense_is_a_usage_error(run, arguments):
    result = run(*arguments)

    assert (result.exit_code, result.stdout) == (2, "")
