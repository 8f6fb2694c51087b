from __future__ import annotations

import io
import json
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import argon2
import pytest
from click.testing import CliRunner
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import insert, select, text

from admin import AdminCommands, cli
from bootstrap import open_backing_services
from chassis.cli import checks
from chassis.errors import InvalidRequest, Unavailable
from chassis.storage import migrations
from chassis.storage.ids import uuid7
from config import AppConfig
from deployment import ADVICE
from tests.support import processes
from tests.support.factories import make_user
from tests.support.ports import HOST, free_port
from userservice.users import service
from userservice.users.errors import EmailTaken
from userservice.users.models import User

PASSWORD = "correct horse"
OTHERS = "0 outbox messages, 0 jobs, "
COMMANDS = ("migrate", "createsuperuser", "cleanup", "export-metrics", "check", "config")


@pytest.fixture
def run(config, services):
    """Call that runs a command on the test's database, in this process."""

    def run(*arguments, settings=None, **options):
        commands = AdminCommands(config, services)
        if settings is not None:
            changed = replace(config, **settings)
            commands = AdminCommands(changed, open_backing_services(changed))
        try:
            return CliRunner().invoke(cli, arguments, obj=commands, **options)
        finally:
            if settings is not None:
                commands.services.close()

    return run


@pytest.fixture
def run_empty(empty_database_url):
    """Call that runs a command on a database without tables, in this process."""
    config = AppConfig(database_url=empty_database_url, redis_url="")
    commands = AdminCommands(config)
    yield lambda *arguments: CliRunner().invoke(cli, arguments, obj=commands)
    commands.close()


@pytest.fixture
def dead_url():
    """Address where nobody listens."""
    return f"redis://{HOST}:{free_port()}"


def stored(database, column, **where):
    statement = select(column)
    for name, value in where.items():
        statement = statement.where(getattr(User, name) == value)
    with database.connection() as connection:
        return connection.scalars(statement).all()


def bury(database, *, days, number=1):
    """Store users who were deleted some days ago."""
    then = datetime.now(UTC) - timedelta(days=days)
    row: dict[str, object] = {
        "name": "Gone",
        "status": "deleted",
        "signup_source": "web",
        "tier": "free",
    }
    row |= {"is_superuser": False, "password_hash": None, "version": 2}
    row |= {"created_at": then, "updated_at": then}
    rows = []
    for _ in range(number):
        address = f"{uuid7()}@example.com"
        rows.append(row | {"id": uuid7(), "email": address, "email_key": address})
    with database.connection() as connection:
        connection.execute(insert(User), rows)
    return [each["id"] for each in rows]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_without_looking_at_the_environment(command):
    result = CliRunner().invoke(cli, [command, "--help"], env={"PORT": "none"})

    assert result.exit_code == 0
    assert result.stdout.startswith(f"Usage: cli {command}")
    assert " ".join(str(cli.commands[command].help).split()) in " ".join(result.stdout.split())


def test_the_help_lists_every_command():
    result = CliRunner().invoke(cli, ["--help"])

    assert result.exit_code == 0
    assert all(f"  {command} " in result.stdout for command in COMMANDS)
    listed = result.stdout.partition("Commands:")[2]
    assert "..." not in listed
    assert set(cli.commands) >= set(COMMANDS)


def test_no_command_gives_the_usage_and_exit_status_2():
    result = CliRunner().invoke(cli, [])

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("Usage:")


@pytest.mark.parametrize("arguments", [["nonsense"], ["--nonsense"], ["cleanup", "--nonsense"]])
def test_an_unknown_command_or_option_gives_the_usage_and_exit_status_2(arguments):
    result = CliRunner().invoke(cli, arguments, obj="never used")

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("Usage:")
    assert "nonsense" in result.stderr


def test_migrate_brings_an_empty_database_up_to_date(run_empty):
    first = run_empty("migrate")
    second = run_empty("migrate")

    applied = "".join(f"applied {each}\n" for each in migrations.revisions())
    assert (first.exit_code, first.output) == (0, applied)
    assert (second.exit_code, second.output) == (0, "up to date\n")


def test_migrate_check_tells_by_its_exit_status_whether_the_database_is_behind(run_empty):
    before = run_empty("migrate", "--check")
    run_empty("migrate")
    after = run_empty("migrate", "--check")

    pending = "".join(f"pending {each}\n" for each in migrations.revisions())
    assert (before.exit_code, before.output) == (1, pending)
    assert (after.exit_code, after.output) == (0, "up to date\n")


def test_migrate_plan_shows_what_would_be_applied_and_changes_nothing(run_empty):
    first = run_empty("migrate", "--plan", "--json")
    second = run_empty("migrate", "--plan", "--json")

    assert (first.exit_code, second.exit_code) == (0, 0)
    assert json.loads(first.stdout) == {"pending": list(migrations.revisions())}
    assert second.stdout == first.stdout


def test_migrate_can_answer_in_json(run_empty):
    result = run_empty("migrate", "--json")

    assert json.loads(result.stdout) == {"applied": list(migrations.revisions())}


def test_createsuperuser_stores_a_user_with_rights_and_a_password(run, database):
    result = run("createsuperuser", "--email", "root@example.com", "--password", PASSWORD)

    (user_id,) = stored(database, User.id, email="root@example.com")
    (password_hash,) = stored(database, User.password_hash, id=user_id)
    assert (result.exit_code, result.output) == (0, f"Created superuser {user_id}\n")
    assert stored(database, User.is_superuser) == [True]
    assert stored(database, User.name) == ["Administrator"]
    assert stored(database, User.signup_source) == ["admin"]
    assert password_hash.startswith("$argon2id$")
    assert argon2.PasswordHasher().verify(password_hash, PASSWORD)


def test_createsuperuser_can_answer_in_json_and_take_a_name(run, database):
    result = run("createsuperuser", "--json", *options(email="a@example.com", name="Grace H."))

    (user_id,) = stored(database, User.id, name="Grace H.")
    assert json.loads(result.stdout) == {"id": str(user_id)}


def options(**values):
    values = {"password": PASSWORD} | values
    return [part for name, value in values.items() for part in (f"--{name}", value)]


@pytest.mark.parametrize(
    ("arguments", "given"),
    [
        (["--password", PASSWORD], {}),
        ([], {"env": {"ADMIN_PASSWORD": PASSWORD}}),
        (["--password-stdin"], {"input": f"{PASSWORD}\n"}),
        (["--password-stdin"], {"input": f"{PASSWORD}\r\nrest"}),
        (["--password-stdin"], {"input": PASSWORD}),
        (["--password-stdin"], {"input": PASSWORD, "env": {"ADMIN_PASSWORD": "another one"}}),
        ([], {"input": f"{PASSWORD}\n{PASSWORD}\n"}),
    ],
    ids=["option", "variable", "line", "first line", "no line end", "preferred", "prompt"],
)
def test_a_password_can_be_given_in_several_ways(run, database, arguments, given):
    result = run("createsuperuser", "--email", "root@example.com", *arguments, **given)

    (password_hash,) = stored(database, User.password_hash)
    assert result.exit_code == 0
    assert argon2.PasswordHasher().verify(password_hash, PASSWORD)
    assert PASSWORD not in result.output
    assert result.stdout.startswith("Created superuser ")


def test_a_password_that_is_repeated_differently_is_asked_for_again(run, database):
    typed = f"{PASSWORD}\nsomething else\n{PASSWORD}\n{PASSWORD}\n"

    result = run("createsuperuser", "--email", "root@example.com", input=typed)

    assert result.exit_code == 0
    assert len(stored(database, User.id)) == 1
    assert "do not match" in result.stderr


def test_a_prompt_that_nobody_answers_ends_the_command(run, database):
    result = run("createsuperuser", "--email", "root@example.com", input="")

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.endswith("Error: Standard input ended before the answer\n")
    assert stored(database, User.id) == []


def test_a_password_that_is_given_twice_is_a_usage_error(run, database):
    result = run("createsuperuser", *options(email="root@example.com"), "--password-stdin")

    assert (result.exit_code, result.stdout) == (2, "")
    assert "Give the password once" in result.stderr
    assert stored(database, User.id) == []


@pytest.mark.parametrize("length", [8, 128])
def test_a_password_may_have_8_to_128_characters(run, database, length):
    result = run("createsuperuser", *options(email="root@example.com", password="ä" * length))

    assert result.exit_code == 0
    assert len(stored(database, User.id)) == 1


@pytest.mark.parametrize(
    ("password", "reason"),
    [
        ("", "must have at least 8 characters"),
        ("p" * 7, "must have at least 8 characters"),
        ("p" * 129, "must have at most 128 characters"),
    ],
)
def test_a_password_of_another_length_is_refused_in_one_line(run, database, password, reason):
    result = run("createsuperuser", *options(email="root@example.com", password=password))

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"Error: Password {reason}\n"
    assert stored(database, User.id) == []


def test_an_address_that_is_none_is_refused_in_one_line(run):
    result = run("createsuperuser", *options(email="nobody"))

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Error: Email must be a valid e-mail address\n"


def test_an_address_that_is_taken_is_refused_in_one_line_whatever_its_case(run, database):
    make_user(database, email="root@example.com")

    result = run("createsuperuser", *options(email="ROOT@example.com"))

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Error: User already exists\n"
    assert stored(database, User.is_superuser) == [False]


def test_an_address_is_required(run):
    result = run("createsuperuser", "--password", PASSWORD)

    assert result.exit_code == 2
    assert "--email" in result.stderr


def test_cleanup_purges_who_was_deleted_long_ago_and_nobody_else(run, database):
    living = make_user(database).id
    (recent,) = bury(database, days=29)
    bury(database, days=31, number=2)

    result = run("cleanup")

    assert (result.exit_code, result.output) == (
        0,
        "Purged 0 idempotency keys, 0 audit events, 0 refresh tokens, " + OTHERS + "2 users\n",
    )
    assert set(stored(database, User.id)) == {living, recent}


def test_cleanup_takes_the_age_in_days(run, database):
    bury(database, days=6)
    bury(database, days=8)

    result = run("cleanup", "--days", "7", "--json")

    assert json.loads(result.stdout) == {
        "idempotency_keys": 0,
        "audit_events": 0,
        "refresh_tokens": 0,
        "outbox_messages": 0,
        "jobs": 0,
        "users": 1,
        "dry_run": False,
    }
    assert len(stored(database, User.id)) == 1


def test_cleanup_of_no_age_purges_who_was_deleted_just_now(run, database):
    service.delete_user(database, make_user(database).id)

    result = run("cleanup", "--days", "0")

    assert (
        result.stdout
        == "Purged 0 idempotency keys, 0 audit events, 0 refresh tokens, " + OTHERS + "1 users\n"
    )


def test_a_dry_run_only_counts(run, database):
    bury(database, days=31, number=3)

    text = run("cleanup", "--dry-run")
    machine = run("cleanup", "--dry-run", "--json")

    assert (
        text.stdout
        == "Would purge 0 idempotency keys, 0 audit events, 0 refresh tokens, "
        + OTHERS
        + "3 users\n"
    )
    assert json.loads(machine.stdout).items() >= {"users": 3, "dry_run": True}.items()
    assert len(stored(database, User.id)) == 3


@pytest.mark.parametrize("number", [0, 1, 2, 5, 6])
def test_cleanup_goes_on_until_nothing_is_left(config, services, database, monkeypatch, number):
    monkeypatch.setattr(service, "PURGE_BATCH", 2)
    if number:
        bury(database, days=31, number=number)
    batches: list[int] = []

    purged = AdminCommands(config, services).cleanup_old_data(30, batches.append)

    assert purged["users"] == sum(batches) == number
    assert max(batches) <= 2
    assert stored(database, User.id) == []


@pytest.mark.parametrize("days", [0, 20_800, 36_500, 10**6, 10**12])
def test_any_age_of_rows_can_be_asked_for(config, services, database, days):
    bury(database, days=31)
    commands = AdminCommands(config, services)

    counted = commands.count_old_data(days)

    assert commands.cleanup_old_data(days) == counted
    assert counted["users"] == (1 if days == 0 else 0)


@pytest.mark.parametrize("days", ["0", "20779", "20800", "36500"])
def test_cleanup_takes_each_age_of_its_range(run, days):
    result = run("cleanup", "--days", days)

    assert (result.exit_code, result.stderr) == (0, "")


@pytest.mark.parametrize("days", ["-1", "40000", "many"])
def test_an_age_out_of_range_is_refused(run, days):
    result = run("cleanup", "--days", days)

    assert (result.exit_code, result.stdout) == (2, "")
    assert "--days" in result.stderr


def test_metrics_in_prometheus_format_can_be_parsed(run, database):
    make_user(database)
    bury(database, days=1, number=2)

    result = run("export-metrics", "-")

    families = {each.name: each for each in text_string_to_metric_families(result.stdout)}
    by_status = {each.labels["status"]: each.value for each in families["users"].samples}
    sizes = families["database_table_size_bytes"].samples
    assert (result.exit_code, result.stderr) == (0, "")
    assert by_status == {"active": 1, "suspended": 0, "deleted": 2}
    tables = {each.labels["table"] for each in sizes}
    assert tables == {"all"} if database.is_sqlite else tables >= {"users", "outbox_messages"}
    assert all(each.value > 0 for each in sizes)


def test_metrics_in_json_can_be_parsed(run, database):
    make_user(database)

    result = run("export-metrics", "--format", "json", "-")

    document = json.loads(result.stdout)
    assert document["users"] == {"active": 1, "suspended": 0, "deleted": 0}
    assert all(size > 0 for size in document["table_bytes"].values())


@pytest.mark.parametrize("output_format", ["json", "prometheus"])
def test_metrics_can_go_to_a_file(run, tmp_path, output_format):
    file = tmp_path / "metrics"
    file.write_text("former\n" * 1000)

    result = run("export-metrics", str(file), "--format", output_format)

    assert (result.exit_code, result.output) == (0, "")
    assert "users" in file.read_text()
    assert "former" not in file.read_text()
    assert [each.name for each in tmp_path.iterdir() if "metrics" in each.name] == ["metrics"]


def test_a_file_that_cannot_be_written_is_refused_in_one_line(run, tmp_path):
    result = run("export-metrics", str(tmp_path / "no" / "such" / "folder"))

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1


def test_a_format_that_does_not_exist_is_refused(run):
    assert run("export-metrics", "--format", "xml", "-").exit_code == 2


def test_check_is_content_when_everything_is_there(run, redis_url):
    result = run("check", settings={"redis_url": redis_url})

    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "ok       configuration",
        "ok       database",
        "ok       schema",
        "ok       redis",
        "ok       connections",
    ]


def test_check_leaves_out_what_is_not_configured(run):
    result = run("check", "--json")

    found = {each["check"]: each["passed"] for each in json.loads(result.stdout)}
    assert found == dict.fromkeys(("configuration", "database", "schema", "connections"), True)


def test_check_fails_and_says_what_to_do_when_the_schema_is_behind(run_empty):
    text = run_empty("check")
    machine = run_empty("check", "--json")

    assert (text.exit_code, machine.exit_code) == (1, 1)
    line = "error    schema: run: python app.py admin migrate [docs/checks.md#schema]"
    assert line in text.stdout.splitlines()
    (schema,) = [each for each in json.loads(machine.stdout) if each["check"] == "schema"]
    assert (schema["passed"], schema["is_fatal"]) == (False, True)


def test_check_fails_when_the_database_is_away(dead_url):
    address = dead_url.removeprefix("redis://")
    config = AppConfig(database_url=f"postgresql://app:hidden-3907@{address}/app", redis_url="")

    result = CliRunner().invoke(cli, ["check"], obj=AdminCommands(config))

    configuration, database, *others = result.stdout.splitlines()
    assert (result.exit_code, configuration) == (1, "ok       configuration")
    assert database.startswith("error    database: check DATABASE_URL and that it runs (connection")
    assert "hidden-3907" not in database
    assert others == [
        "error    schema: the database did not answer [docs/checks.md#schema]",
        "warning  connections: the database did not answer [docs/checks.md#connections]",
    ]


@pytest.mark.parametrize(
    ("requires", "flags", "label"),
    [
        ("database", [], "warning"),
        ("database", ["--deploy"], "error"),
        ("database,redis", [], "error"),
    ],
)
def test_redis_that_is_away_is_an_error_when_it_is_required_or_deployed(
    run, dead_url, requires, flags, label
):
    settings = {"redis_url": dead_url, "ready_requires": requires}

    result = run("check", *flags, settings=settings)

    advice = "redis: check REDIS_URL, or set it to nothing to do without"
    assert result.exit_code == (1 if label == "error" else 0)
    assert f"{label:8} {advice} [docs/checks.md#redis]" in result.stdout.splitlines()


def test_a_service_that_is_away_is_a_warning(run, dead_url):
    url = dead_url.replace("redis", "http")

    result = run("check", settings={"email_service_url": url})

    assert result.exit_code == 0
    assert "warning  external_apis: check EMAIL_SERVICE_URL" in result.stdout


def test_more_connections_than_the_server_allows_are_a_warning(postgresql_url):
    config = AppConfig(
        database_url=postgresql_url,
        redis_url="",
        web_concurrency=200,
        web_threads=200,
        database_pool_size=200,
    )
    commands = AdminCommands(config)

    (finding,) = [each for each in commands.check() if each.check == "connections"]

    assert (finding.passed, finding.is_fatal) == (False, False)
    assert "40000 connections" in finding.advice
    assert "lower WEB_CONCURRENCY" in finding.advice
    commands.close()


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_connections_must_suffice_for_two_replicas_as_during_a_rollout(services, database):
    with database.connection() as connection:
        allowed = int(connection.scalar(text("SHOW max_connections")))

    def suffice(wanted):
        found = checks.check_services(services, advice=ADVICE, required=(), connections=wanted)
        return next(each.passed for each in found if each.check == "connections")

    assert [suffice(allowed // 2), suffice(allowed // 2 + 1)] == [True, False]


def test_config_shows_effective_values_and_masks_secrets(run):
    settings = {
        "redis_url": "redis://:hidden-3907@cache:6379",
        "api_key": "hidden-3907",
        "port": 9000,
    }

    text = run("config", settings=settings)
    machine = run("config", "--json", settings=settings)

    lines = text.stdout.splitlines()
    assert text.exit_code == 0
    assert "DRAIN_SECONDS=0.0" in lines  # what an empty one comes to in development
    assert {"PORT=9000", "API_KEY=***", "REDIS_URL=redis://:***@cache:6379"} <= set(lines)
    assert json.loads(machine.stdout) == dict(line.split("=", 1) for line in lines)
    assert "hidden-3907" not in text.output + machine.output


@pytest.mark.parametrize(
    "arguments",
    [
        ["createsuperuser", *options(email="root@example.com")],
        ["cleanup"],
        ["cleanup", "--dry-run"],
        ["export-metrics", "-"],
        ["import", os.devnull],
        ["export", "-"],
        ["outbox", "list"],
        ["outbox", "requeue", "--all"],
    ],
    ids=" ".join,
)
def test_a_command_on_a_database_without_tables_says_in_one_line_what_to_do(run_empty, arguments):
    result = run_empty(*arguments)

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Error: The schema is behind; run: python app.py admin migrate\n"


@pytest.mark.parametrize(
    "arguments",
    [["migrate"], ["cleanup"], ["export-metrics", "-"], ["migrate", "--check", "--json"]],
    ids=" ".join,
)
def test_a_command_without_its_database_fails_in_one_line_with_the_reason(dead_url, arguments):
    address = dead_url.removeprefix("redis://")
    config = AppConfig(database_url=f"postgresql://app:hidden-3907@{address}/app", redis_url="")

    result = CliRunner().invoke(cli, arguments, obj=AdminCommands(config))

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("Error: Service temporarily unavailable: connection to server")
    assert "hidden-3907" not in result.stderr


def test_a_command_that_lacks_a_right_names_it_in_one_line(powerless_url, caplog):
    config = AppConfig(database_url=powerless_url, redis_url="")

    result = CliRunner().invoke(cli, ["migrate"], obj=AdminCommands(config))

    assert (result.exit_code, result.stdout) == (1, "")
    reason = "The database denies permission: permission denied for schema public"
    assert result.stderr == f"Error: {reason}\n"
    assert "Command failed" not in caplog.text


def test_check_names_a_database_that_is_read_only(postgresql_url):
    read_only = f"{postgresql_url}?options=-c%20default_transaction_read_only%3Don"
    config = AppConfig(database_url=read_only, redis_url="")

    result = CliRunner().invoke(cli, ["check"], obj=AdminCommands(config))

    assert result.exit_code == 1
    assert "error    read_only: DATABASE_URL leads to a standby" in result.stdout


def test_a_bug_is_reported_in_one_line_and_logged_with_its_place(caplog):
    class Broken(AdminCommands):
        def masked_config(self):
            return dict[str, str]()["absent"]

    result = CliRunner().invoke(cli, ["config"], obj=Broken(AppConfig()))

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Error: Internal server error; the log says more\n"
    assert isinstance(caplog.records[-1].exc_info[1], KeyError)


def test_a_cleanup_without_a_command_line_needs_the_schema_too(empty_database_url):
    commands = AdminCommands(AppConfig(database_url=empty_database_url, redis_url=""))

    with pytest.raises(Unavailable, match="The schema is behind"):
        commands.cleanup_old_data()

    commands.close()


def test_the_commands_can_be_used_without_a_command_line(empty_database_url):
    commands = AdminCommands(AppConfig(database_url=empty_database_url, redis_url=""))
    file = io.StringIO()

    applied = commands.migrate_database()
    user = commands.create_superuser("root@example.com", PASSWORD)
    commands.export_metrics(file, "json")

    assert applied == list(migrations.revisions())
    assert json.loads(file.getvalue())["users"]["active"] == 1
    with pytest.raises(EmailTaken):
        commands.create_superuser("root@example.com", PASSWORD)
    with pytest.raises(InvalidRequest):
        commands.create_superuser("other@example.com", "short")
    assert service.get_user(commands.database, user.id) == user
    commands.close()


def test_closing_leaves_services_that_were_given_open(config, services):
    commands = AdminCommands(config, services)
    with services.database.connection() as connection:
        driver = connection.connection.dbapi_connection

    commands.close()

    with services.database.connection() as connection:
        assert connection.connection.dbapi_connection is driver


def admin(database_url, *arguments, stdin="", **variables):
    variables = {"DATABASE_URL": database_url, "REDIS_URL": ""} | variables
    return processes.run(*processes.ADMIN, *arguments, variables=variables, stdin=stdin)


def test_a_process_writes_its_result_to_stdout_and_its_log_to_stderr(database, database_url):
    result = admin(
        database_url,
        *("createsuperuser", "--email", "root@example.com", "--password-stdin", "--json"),
        stdin=f"{PASSWORD}\n",
    )

    assert result.returncode == 0
    user_id = json.loads(result.stdout)["id"]
    (entry,) = [json.loads(line) for line in result.stderr.splitlines()]
    assert (entry["message"], entry["user_id"]) == ("User created successfully", user_id)
    assert UUID(user_id) in stored(database, User.id)
    assert "root@example.com" not in result.stderr
    (password_hash,) = stored(database, User.password_hash)
    assert argon2.extract_parameters(password_hash).memory_cost >= 19_456


def test_a_process_that_fails_says_so_on_stderr_alone(database, database_url):
    make_user(database, email="root@example.com")
    arguments = ("createsuperuser", "--email", "root@example.com")

    result = admin(database_url, *arguments, ADMIN_PASSWORD=PASSWORD)

    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "Error: User already exists\n"


@pytest.mark.parametrize("arguments", [[], ["nonsense"]])
def test_a_process_without_a_command_that_exists_ends_with_status_2(arguments):
    result = processes.run(*processes.ADMIN, *arguments, variables={"PORT": "none"})

    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("Usage: app.py admin")


def test_a_process_that_checks_a_bad_environment_reports_every_problem_and_ends_with_status_1():
    variables = {"PORT": "none", "ENVIRONMENT": "prod"}

    text = processes.run(*processes.ADMIN, "check", variables=variables)
    machine = processes.run(*processes.ADMIN, "check", "--json", variables=variables)

    assert (text.returncode, text.stderr) == (1, "")
    assert {line.split(":")[0] for line in text.stdout.splitlines()} == {"error    configuration"}
    assert (machine.returncode, machine.stderr) == (1, "")
    advice = [each["advice"].split()[0] for each in json.loads(machine.stdout)]
    assert sorted(advice) == ["ENVIRONMENT", "PORT"]


def test_a_process_shows_its_configuration_in_the_environment_that_it_runs_in(tmp_path):
    file = tmp_path / "key"
    file.write_text("hidden-3907")

    result = admin("sqlite:///x.db", "config", "--json", API_KEY_FILE=str(file), PORT="9000")

    shown = json.loads(result.stdout)
    assert (shown["PORT"], shown["API_KEY"]) == ("9000", "***")
    assert "hidden-3907" not in result.stdout + result.stderr


def test_a_terminal_shows_the_progress_of_a_cleanup(database, database_url):
    bury(database, days=31, number=3)
    ours, theirs = os.openpty()
    arguments = (*processes.ADMIN, "cleanup")
    variables = {"DATABASE_URL": database_url, "REDIS_URL": "", "TERM": "xterm"}

    result = processes.run(*arguments, variables=variables, stderr=theirs)

    os.close(theirs)
    shown = os.read(ours, 10_000).decode()
    os.close(ours)
    assert (result.returncode, result.stdout) == (
        0,
        "Purged 0 idempotency keys, 0 audit events, 0 refresh tokens, " + OTHERS + "3 users\n",
    )
    assert "Purging" in shown
    assert "100%" in shown


class NotedMailer:
    """A mailer that notes when it is closed, as the first of all resources."""

    def __init__(self):
        self.is_closed = False

    def close(self):
        self.is_closed = True


def test_resources_are_closed_where_they_were_opened(config, services):
    mailer: Any = NotedMailer()
    given = AdminCommands(config, replace(services, mailer=mailer))
    own = AdminCommands(config)
    for commands in (given, own):
        commands.database.ping()

    for commands in (given, own):
        commands.close()

    assert not mailer.is_closed
    assert own.database.pool_usage()["idle"] == 0
