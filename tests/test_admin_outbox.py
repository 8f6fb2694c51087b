from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import select, update

from admin import AdminCommands, cli
from chassis.background import outbox
from chassis.background.outbox import messages
from chassis.storage.ids import uuid7


@pytest.fixture
def commands(config, services):
    return AdminCommands(config, services)


@pytest.fixture
def run(commands):
    """Call that runs a command on the test's database, in this process."""
    return lambda *arguments: CliRunner().invoke(cli, arguments, obj=commands)


def enqueue(database, status="queued", *, age=timedelta(0)):
    """Store a message that was queued some time ago and tried three times."""
    row = outbox.new_message("user.registered", {"user_id": "secret"})
    created_at = datetime.now(UTC) - age
    changes = {
        "status": status,
        "attempts": 3,
        "due_at": created_at,
        "expires_at": created_at + outbox.PATIENCE,
        "last_error": "The e-mail service answered 503",
    }
    with database.transaction() as connection:
        connection.execute(outbox.INSERT, row)
        here = messages.c.id == row["message_id"]
        connection.execute(update(messages).where(here).values(changes))
    return row["message_id"]


def read(database, message_id):
    with database.connection() as connection:
        return connection.execute(select(messages).where(messages.c.id == message_id)).one()


def test_abandoned_messages_are_listed_with_their_error(run, database):
    abandoned = enqueue(database, "abandoned")
    enqueue(database, "queued")

    result = run("outbox", "list")

    (line,) = result.stdout.splitlines()
    assert result.exit_code == 0
    assert line.startswith(f"{abandoned}  user.registered  3 attempts  ")
    assert line.endswith("The e-mail service answered 503")
    assert "secret" not in line


@pytest.mark.parametrize("status", ["queued", "sent", "skipped", "abandoned"])
def test_messages_of_one_status_are_listed_for_machines(run, database, status):
    ids = {each: str(enqueue(database, each)) for each in outbox.MessageStatus}

    result = run("outbox", "list", "--status", status, "--json")

    (row,) = json.loads(result.stdout)
    assert row["id"] == ids[status]
    assert set(row) == {"id", "topic", "attempts", "due_at", "last_error"}
    assert datetime.fromisoformat(row["due_at"]).tzinfo is not None


def test_a_list_is_no_longer_than_asked_for(run, database):
    ids = [str(enqueue(database, "abandoned")) for _ in range(3)]

    result = run("outbox", "list", "--limit", "2", "--json")

    assert [row["id"] for row in json.loads(result.stdout)] == sorted(ids)[:2]


def test_an_empty_list_is_empty(run):
    assert run("outbox", "list").stdout == ""
    assert json.loads(run("outbox", "list", "--json").stdout) == []


@pytest.mark.parametrize("flags", [[], ["--payload"]], ids=str)
def test_a_message_is_shown_and_its_payload_only_when_asked_for(run, database, flags):
    message_id = enqueue(database, "abandoned")

    text = run("outbox", "show", str(message_id), *flags)
    machine = run("outbox", "show", str(message_id), *flags, "--json")

    document = json.loads(machine.stdout)
    assert (text.exit_code, text.stderr) == (0, "")
    assert document["id"] == str(message_id)
    assert document["status"] == "abandoned"
    assert document["last_error"] == "The e-mail service answered 503"
    assert "status: abandoned" in text.stdout.splitlines()
    assert ("secret" in text.stdout, "payload" in document) == (bool(flags), bool(flags))


def test_a_message_that_is_not_there_is_one_line(run):
    absent = uuid7()

    result = run("outbox", "show", str(absent))

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"Error: There is no message {absent}\n"


def test_a_requeued_message_is_due_now_and_has_another_day(run, database):
    abandoned = enqueue(database, "abandoned", age=timedelta(days=3))
    other = enqueue(database, "abandoned")

    result = run("outbox", "requeue", str(abandoned))

    row = read(database, abandoned)
    assert (result.exit_code, result.stdout) == (0, "Requeued 1 messages\n")
    assert (row.status, row.attempts, row.last_error) == ("queued", 0, None)
    assert row.expires_at - row.due_at == outbox.PATIENCE
    assert read(database, other).status == "abandoned"


def test_all_abandoned_messages_are_requeued_and_no_others(run, database):
    abandoned = [enqueue(database, "abandoned") for _ in range(2)]
    sent = enqueue(database, "sent")

    result = run("outbox", "requeue", "--all", "--json")

    assert json.loads(result.stdout) == {"requeued": 2}
    assert {read(database, each).status for each in abandoned} == {"queued"}
    assert read(database, sent).status == "sent"


def test_a_message_that_was_not_abandoned_is_left_alone_and_said_to_be(run, database):
    sent, abandoned = enqueue(database, "sent"), enqueue(database, "abandoned")

    result = run("outbox", "requeue", str(sent), str(abandoned), str(uuid7()))

    assert result.exit_code == 1
    assert result.stdout == "Requeued 1 messages\n"
    assert result.stderr == "Error: 2 of them were not abandoned\n"
    assert read(database, sent).status == "sent"


@pytest.mark.parametrize(
    "arguments",
    [
        ("outbox",),
        ("outbox", "requeue"),
        ("outbox", "requeue", "--all", str(uuid7())),
        ("outbox", "requeue", "no-id"),
        ("outbox", "list", "--status", "lost"),
        ("outbox", "list", "--limit", "0"),
        ("outbox", "show"),
        ("outbox", "unknown"),
    ],
)
def test_a_command_that_makes_no_sense_shows_usage_and_changes_nothing(run, database, arguments):
    abandoned = enqueue(database, "abandoned")

    result = run(*arguments)

    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Usage:" in result.stderr
    assert read(database, abandoned).status == "abandoned"


def test_depth_and_age_of_the_outbox_are_exported_to_prometheus(commands, database):
    enqueue(database, age=timedelta(hours=1))
    enqueue(database, age=timedelta(minutes=1))
    enqueue(database, "abandoned")
    enqueue(database, "sent")
    file = io.StringIO()

    commands.export_metrics(file)

    samples = {
        (sample.name, sample.labels.get("status")): sample.value
        for family in text_string_to_metric_families(file.getvalue())
        for sample in family.samples
    }
    assert samples["outbox_messages", "queued"] == 2
    assert samples["outbox_messages", "abandoned"] == 1
    assert samples["outbox_oldest_message_age_seconds", None] == pytest.approx(3600, abs=60)


def test_depth_and_age_of_the_outbox_are_exported_as_json(commands):
    file = io.StringIO()

    commands.export_metrics(file, "json")

    expected = {"queued": 0, "abandoned": 0, "oldest_seconds": 0.0}
    assert json.loads(file.getvalue())["outbox"] == expected
