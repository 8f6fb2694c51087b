"""import and export on the command line."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import signal
import stat
import subprocess
from contextlib import closing, contextmanager, suppress
from dataclasses import replace

import pytest
from click.testing import CliRunner
from sqlalchemy import func, select

from admin import AdminCommands, cli
from chassis.errors import Unavailable
from chassis.storage.database import DatabaseManager
from tests.support import processes
from tests.support.factories import make_user
from tests.support.waiting import DEADLINE_SECONDS, eventually
from userservice.jobs import imports
from userservice.jobs import service as jobs
from userservice.jobs.models import Job, JobChunk
from userservice.users.models import User

# Eighty lines of such a length are several steps.
PADDING = "x" * 10_000


@pytest.fixture
def run(config, services):
    """Call that runs a command on the test's database, in this process."""
    commands = AdminCommands(config, services)
    return lambda *arguments, **options: invoke(commands, *arguments, **options)


def invoke(commands, *arguments, **options):
    return CliRunner().invoke(cli, arguments, obj=commands, **options)


def lines(number, **members):
    rows = ({"email": f"u{n}@example.com", "name": f"User {n}"} | members for n in range(number))
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def emails(database):
    with database.connection() as connection:
        return sorted(connection.scalars(select(User.email).where(User.status == "active")))


def count(database, column):
    with database.connection() as connection:
        return connection.scalar(select(func.count(column)))


def state(database):
    with database.connection() as connection:
        return connection.scalar(select(Job.state))


def test_a_file_is_imported(run, database, tmp_path):
    file = tmp_path / "users"
    file.write_bytes(lines(3))

    result = run("import", str(file))

    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "Created 3 users, refused 0 lines\n"
    assert emails(database) == ["u0@example.com", "u1@example.com", "u2@example.com"]


def test_standard_input_is_imported_in_several_steps(run, database):
    result = run("import", "-", "--json", input=lines(80, padding=PADDING))

    summary = json.loads(result.stdout)
    assert (result.exit_code, result.stderr) == (0, "ignored: padding in 80 lines\n")
    assert summary["ignored"] == {"padding": 80}
    assert (summary["state"], summary["created"], summary["failed"]) == ("succeeded", 80, 0)
    assert len(emails(database)) == 80


def test_refused_lines_are_named_and_the_others_imported(run, database):
    result = run("import", "-", input=b"broken\n" + lines(2) + lines(1))

    assert result.exit_code == 1
    assert result.stdout == "Created 2 users, refused 2 lines\n"
    assert result.stderr.startswith("line 1: ")
    assert result.stderr.endswith("line 4: User already exists\n")
    assert len(emails(database)) == 2


def test_of_many_refused_lines_the_first_are_named(run, monkeypatch):
    monkeypatch.setattr(jobs, "SHOWN_ERRORS", 2)

    result = run("import", "-", input=b"broken\n" * 5)

    assert result.exit_code == 1
    assert result.stderr.count("not valid") == 2
    assert result.stderr.endswith("and 3 more lines\n")


def test_a_table_without_a_header_fails_and_says_why(run, database):
    result = run("import", "-", "--format", "csv", input=b"Ada,ada@example.com\n")

    assert result.exit_code == 1
    assert result.stdout == "Created 0 users, refused 1 lines\n"
    assert result.stderr.endswith(
        "Error: Import failed: The first line must name the columns, email and name among them\n"
    )
    assert emails(database) == []


def test_an_import_that_somebody_cancels_fails(config, services, database):
    class Cancelled:
        def submit_cpu_task(self, *task):
            with database.connection() as connection:
                job_id = connection.scalar(select(Job.id))
            jobs.cancel_job(database, job_id)
            return services.tasks.submit_cpu_task(*task)

    commands = AdminCommands(config, replace(services, tasks=Cancelled()))

    result = invoke(commands, "import", "-", input=lines(2))

    assert result.exit_code == 1
    assert result.stderr == "Error: Import cancelled\n"
    assert emails(database) == []


def test_an_import_that_breaks_off_says_who_goes_on_with_it(config, services, database):
    class Away:
        def submit_cpu_task(self, *_task):
            raise Unavailable

    commands = AdminCommands(config, replace(services, tasks=Away()))

    result = invoke(commands, "import", "-", input=lines(2))

    (note, error) = result.stderr.splitlines()
    assert result.exit_code == 1
    assert "is not over: a worker goes on with it" in note
    assert error.startswith("Error: ")
    assert state(database) == "queued"


@pytest.mark.parametrize("arguments", [["no-such-file"], ["-", "--format", "xml"], []], ids=str)
def test_what_cannot_be_read_is_a_usage_error(run, database, arguments):
    result = run("import", *arguments, input=b"")

    assert result.exit_code == 2
    assert count(database, Job.id) == 0


@pytest.mark.parametrize("upload_format", ["ndjson", "csv"])
def test_what_was_exported_can_be_imported_and_is_the_same(
    run, database, service_client, tmp_path, upload_format
):
    names = ["Ada", "=1+1", 'O"Neil, "Bob"', "Ünï"]
    for name in names:
        make_user(database, name=name)
    first, second = tmp_path / "first", tmp_path / "second"

    exported = run("export", str(first), "--format", upload_format)
    for user in service_client.get("/users").json["items"]:
        service_client.delete(f"/users/{user['id']}")
    imported = run("import", str(first), "--format", upload_format)
    run("export", str(second), "--format", upload_format)

    assert (exported.exit_code, exported.output) == (0, "")
    assert stat.S_IMODE(first.stat().st_mode) == 0o600  # personal data
    assert imported.exit_code == 0
    assert imported.stderr == "ignored: id in 4 lines\nignored: created_at in 4 lines\n"
    assert people(first, upload_format) == people(second, upload_format)
    assert len(people(first, upload_format)) == len(names)
    assert list(tmp_path.glob("*.part")) == []


def people(file, upload_format):
    """Read an export without the members that an import does not take."""
    if upload_format == "csv":
        rows = list(csv.DictReader(io.StringIO(file.read_text(), newline="")))
    else:
        rows = [json.loads(line) for line in file.read_text().splitlines()]
    return sorted((row["email"], row["name"], row["source"], row["tier"]) for row in rows)


def test_an_export_to_standard_output_is_nothing_but_users(run, database):
    user = make_user(database)

    result = run("export", "-")

    assert (result.exit_code, result.stderr) == (0, "")
    assert [json.loads(line)["id"] for line in result.stdout.splitlines()] == [str(user.id)]


class Leaving:
    """A database that is away when all of a snapshot but its end has been read."""

    def __init__(self, database):
        self._database = database

    def __getattr__(self, name):
        return getattr(self._database, name)

    @contextmanager
    def snapshot(self):
        with self._database.snapshot() as connection:
            yield connection
        raise Unavailable


def test_an_export_that_breaks_off_leaves_the_file_as_it_was(config, services, database, tmp_path):
    make_user(database)
    file = tmp_path / "users"
    file.write_text("as it was")
    commands = AdminCommands(config, replace(services, database=Leaving(database)))

    result = invoke(commands, "export", str(file))

    assert result.exit_code == 1
    assert file.read_text() == "as it was"
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith("users")] == ["users"]


def test_an_export_keeps_who_may_read_the_file_and_a_link_to_it(run, tmp_path):
    file, link = tmp_path / "users", tmp_path / "link"
    file.write_text("as it was")
    file.chmod(0o600)
    link.symlink_to(file)

    result = run("export", str(link))

    assert result.exit_code == 0
    assert link.is_symlink()
    assert file.read_text() == ""  # there are no users
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_an_export_into_a_device_does_not_replace_it(run):
    result = run("export", os.devnull)

    assert result.exit_code == 0
    assert not os.path.isfile(os.devnull)  # noqa: PTH113 - of a name that is no Path


def test_an_export_into_a_folder_that_is_not_there_fails(run, tmp_path):
    result = run("export", str(tmp_path / "no" / "users"))

    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")


@pytest.fixture
def variables(sqlite_url):
    """The environment of a command in a process of its own."""
    return {"DATABASE_URL": sqlite_url, "REDIS_URL": ""}


def read_terminal(master):
    """Return what was written to a terminal, until its last writer has gone."""
    written = b""
    with suppress(OSError):  # which is how a terminal ends
        while piece := os.read(master, 65_536):
            written += piece
    os.close(master)
    return written.decode()


@pytest.mark.slow
def test_progress_is_shown_on_a_terminal_and_nowhere_else(variables, tmp_path):
    file = tmp_path / "users"
    file.write_bytes(lines(80, ignored=PADDING))
    master, terminal = pty.openpty()

    imported = processes.start(
        *processes.ADMIN, "import", str(file), variables=variables, stderr=terminal
    )
    os.close(terminal)
    shown = read_terminal(master)
    result = processes.finish(imported)
    elsewhere = processes.run(*processes.ADMIN, "export", "-", variables=variables)

    assert "Importing" in shown
    assert "100%" in shown
    assert result.stdout == "Created 80 users, refused 0 lines\n"
    assert (elsewhere.returncode, elsewhere.stderr) == (0, "")
    assert len(elsewhere.stdout.splitlines()) == 80


@pytest.mark.slow
def test_ctrl_c_during_the_upload_leaves_nothing(variables, sqlite_url):
    database = DatabaseManager(sqlite_url).initialize()
    with closing(database), start_import_from_pipe(variables) as process:
        process.stdin.write(lines(80, ignored=PADDING))
        process.stdin.flush()
        eventually(lambda: count(database, JobChunk.start))

        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=DEADLINE_SECONDS)

        assert process.returncode == 130
        assert errors.endswith(b"Error: Interrupted\n")
        assert count(database, Job.id) == count(database, JobChunk.start) == 0


def start_import_from_pipe(variables):
    return subprocess.Popen(
        [*processes.ADMIN, "import", "-"],
        cwd=processes.ROOT,
        env=processes.environment(variables),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


class Interrupted:
    """Runs tasks until Ctrl-C is pressed, at the third."""

    def __init__(self, tasks):
        self._run = tasks.submit_cpu_task
        self._left = 2

    def submit_cpu_task(self, *task):
        if not self._left:
            raise KeyboardInterrupt
        self._left -= 1
        return self._run(*task)


def test_ctrl_c_during_the_import_says_who_goes_on_with_it(config, services, database):
    upload = lines(80, ignored=PADDING)
    commands = AdminCommands(config, replace(services, tasks=Interrupted(services.tasks)))

    result = invoke(commands, "import", "-", input=upload)
    imported = len(emails(database))
    with database.connection() as connection:
        job_id = connection.scalar(select(Job.id))
    while imports.run_import_step(services, job_id):
        pass

    assert (result.exit_code, result.stdout) == (130, "")
    assert f"Import {job_id} is not over: a worker goes on with it" in result.stderr
    assert 0 < imported < 80
    assert len(emails(database)) == 80
