"""Full exports, and their way back."""

from __future__ import annotations

import json
import os
import pty
import stat
import subprocess
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import delete, func, select, update

from admin import AdminCommands, cli
from chassis.errors import Unavailable
from chassis.storage.database import DatabaseManager
from config import AppConfig
from tests.support import processes
from tests.support.factories import make_user
from tests.support.waiting import DEADLINE_SECONDS
from userservice.users import backups
from userservice.users.queries import users
from userservice.users.stored import VERSION, StoredUser

PASSWORD = "a long enough sentence"


@pytest.fixture
def run(config, services):
    """Call that runs a command on the test's database, in this process."""
    commands = AdminCommands(config, services)
    return lambda *arguments, **options: CliRunner().invoke(cli, arguments, obj=commands, **options)


class Exported(list[Any]):
    """The rows of an export, in its order, and its file."""

    file: Path


@pytest.fixture
def exported(run, database, tmp_path):
    """A full export of a user of each kind, who are there."""
    populate(database)
    rows = Exported(rows_of(database))
    rows.file = tmp_path / "users"
    assert run("export", "--full", str(rows.file)).exit_code == 0
    return rows


def rows_of(database):
    with database.connection() as connection:
        return connection.execute(select(users).order_by(users.c.id)).all()


def clear(database):
    with database.connection() as connection:
        connection.execute(delete(users))


def populate(database):
    """Make a user of each kind."""
    plain, deleted, suspended = (
        make_user(database, password=PASSWORD),
        make_user(database, name="Ünï \\ \t".strip()),
        make_user(database, password=PASSWORD),
    )
    make_user(database, is_superuser=True, password=PASSWORD, tier="pro")
    now = func.now() if not database.is_sqlite else plain.created_at
    changes = {
        plain.id: {
            "stamp": "5" * 32,
            "verified_key": plain.email,
            "pending_email": "next@example.com",
            "password_changed_at": now,
            "sessions_ended_at": now,
            "roles": ["billing", "support:read"],
            "version": 7,
        },
        deleted.id: {"status": "deleted"},
        suspended.id: {
            "suspended_at": now,
            "suspension_reason": "Sent spam",
            "password_hash": "!" + "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$" + "A" * 43,
        },
    }
    with database.connection() as connection:
        for user_id, values in changes.items():
            connection.execute(update(users).where(users.c.id == user_id).values(values))


def test_a_format_has_all_columns_of_the_table():
    """A new column is a new format: raise VERSION, and say what becomes of files of the older."""
    assert VERSION == 1
    assert set(StoredUser.model_fields) == set(users.c.keys())


def test_what_is_restored_is_what_was_exported(run, database, tmp_path):
    populate(database)
    before, file = rows_of(database), tmp_path / "users"

    exported = run("export", "--full", str(file))
    clear(database)
    restored = run("import", "--restore", str(file), "--json")

    assert (exported.exit_code, exported.output) == (0, "")
    assert (restored.exit_code, restored.stderr) == (0, "")
    assert json.loads(restored.stdout) == {"restored": 4, "unchanged": 0, "refused": 0}
    assert rows_of(database) == before


def test_a_restore_can_be_done_again_after_a_break(run, database, tmp_path):
    populate(database)
    before, file = rows_of(database), tmp_path / "users"
    run("export", "--full", str(file))
    with database.connection() as connection:
        connection.execute(delete(users).where(users.c.is_superuser))

    first, again = (run("import", "--restore", str(file)) for _ in range(2))

    assert first.stdout == "Restored 1 users, 3 were there, refused 0 lines\n"
    assert again.stdout == "Restored 0 users, 4 were there, refused 0 lines\n"
    assert rows_of(database) == before


def test_a_user_who_differs_from_the_file_stays_and_is_named(run, database, exported):
    ada = exported[0]
    with database.connection() as connection:
        connection.execute(update(users).where(users.c.id == ada.id).values(name="Ada L."))
    before = rows_of(database)

    result = run("import", "--restore", str(exported.file))

    assert result.exit_code == 1
    assert result.stdout == "Restored 0 users, 3 were there, refused 1 lines\n"
    assert result.stderr == f"line 2: User {ada.id} is there already, with other values\n"
    assert rows_of(database) == before


def test_an_address_that_belongs_to_another_stays_with_its_user(run, database, exported):
    ada = exported[0]
    clear(database)
    other = make_user(database, email=ada.email.upper())

    result = run("import", "--restore", str(exported.file))

    assert result.exit_code == 1
    assert result.stdout == "Restored 3 users, 0 were there, refused 1 lines\n"
    assert result.stderr == f"line 2: The address of user {ada.id} belongs to user {other.id}\n"
    assert ada.email not in result.output


class Leaving:
    """A database that is away from its third transaction on."""

    def __init__(self, database):
        self._database = database
        self._left = 2

    def __getattr__(self, name):
        return getattr(self._database, name)

    def transaction(self):
        if not self._left:
            raise Unavailable
        self._left -= 1
        return self._database.transaction()


def test_a_restore_that_breaks_off_goes_on_where_it_was(
    run, services, database, exported, monkeypatch
):
    monkeypatch.setattr(backups, "BATCH_LINES", 1)
    before = rows_of(database)
    clear(database)
    commands = AdminCommands(AppConfig(), replace(services, database=Leaving(database)))

    broken = CliRunner().invoke(cli, ["import", "--restore", str(exported.file)], obj=commands)
    there = len(rows_of(database))
    result = run("import", "--restore", str(exported.file))

    assert (broken.exit_code, there) == (1, 2)
    assert result.stdout == "Restored 2 users, 2 were there, refused 0 lines\n"
    assert rows_of(database) == before


FIRST_LINES = {
    "newer": (
        b'{"format":"users","version":2,"users":4}',
        "The file has a newer format, 2: this release reads 1",
    ),
    "older": (
        b'{"format":"users","version":0,"users":4}',
        "The file has an older format, 0: this release reads 1",
    ),
    "none": (
        b'{"id":"01890a5d-ac96-774b-bcce-b302099a8057","email":"ada@example.com"}',
        "The file is no full export: its first line must be the header",
    ),
    "empty": (b"", "The file is no full export: its first line must be the header"),
}


@pytest.mark.parametrize(("line", "reason"), FIRST_LINES.values(), ids=FIRST_LINES)
def test_a_file_of_another_format_is_refused_as_a_whole(run, database, exported, line, reason):
    clear(database)
    others = b"".join(exported.file.read_bytes().splitlines(keepends=True)[1:])

    result = run("import", "--restore", "-", input=line + b"\n" + others if line else b"")

    assert (result.exit_code, result.stdout, result.stderr) == (1, "", f"Error: {reason}\n")
    assert rows_of(database) == []


def test_a_file_that_is_not_whole_is_reported(run, database, exported):
    clear(database)
    lines = exported.file.read_bytes().splitlines(keepends=True)

    result = run("import", "--restore", "-", input=b"".join(lines[:-1]))

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Error: The file has 3 of the 4 users that it announces\n"
    assert len(rows_of(database)) == 3


BROKEN = {
    "json": lambda line: line[:-9],
    "nul": lambda line: line.replace(b'"name":"', b'"name":"\\u0000'),
    "member": lambda line: line.replace(b'{"id"', b'{"more":1,"id"'),
    "lacking": lambda line: line.replace(b'"version":7,', b""),
    "status": lambda line: line.replace(b'"active"', b'"asleep"'),
    "zone": lambda line: line.replace(b'Z","updated_at"', b'","updated_at"'),
    "long": lambda line: line.replace(b'"name":"', b'"name":"' + b"x" * 70_000),
}


@pytest.mark.parametrize("spoil", BROKEN.values(), ids=BROKEN)
def test_a_line_that_cannot_be_read_stops_no_other(run, database, exported, spoil):
    clear(database)
    lines = exported.file.read_bytes().splitlines()
    assert spoil(lines[1]) != lines[1]
    lines[1] = spoil(lines[1])

    result = run("import", "--restore", "-", input=b"\n".join(lines) + b"\n")

    assert result.exit_code == 1
    assert result.stderr.startswith("line 2: ")
    assert len(rows_of(database)) == 3
    assert exported[0].email not in result.output


def test_a_full_export_is_readable_by_its_owner_alone_from_its_first_byte(
    config, services, database, tmp_path
):
    file = tmp_path / "users"
    modes: list[int] = []
    file.write_text("as it was, and readable by all")
    file.chmod(0o644)

    class Watched(Leaving):
        @contextmanager
        def snapshot(self):
            modes.extend(stat.S_IMODE(each.stat().st_mode) for each in tmp_path.glob("users.*"))
            with self._database.snapshot() as connection:
                yield connection

    make_user(database)
    commands = AdminCommands(config, replace(services, database=Watched(database)))

    result = CliRunner().invoke(cli, ["export", "--full", str(file)], obj=commands)

    assert (result.exit_code, modes) == (0, [0o600])
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(file.read_text().splitlines()) == 2


@pytest.mark.parametrize("arguments", [("export", "--full"), ("import", "--restore")])
def test_a_full_export_is_no_table(run, arguments):
    result = run(*arguments, "--format", "csv", "-", input=b"")

    assert result.exit_code == 2
    assert "leave --format csv out" in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", ["-", "/dev/stdout"])
def test_a_terminal_is_shown_no_hash(sqlite_url, name):
    database = DatabaseManager(sqlite_url).initialize()
    make_user(database, password=PASSWORD)
    database.close()
    master, terminal = pty.openpty()

    with subprocess.Popen(
        [*processes.ADMIN, "export", "--full", name],
        cwd=processes.ROOT,
        env=processes.environment({"DATABASE_URL": sqlite_url, "REDIS_URL": ""}),
        stdin=subprocess.DEVNULL,
        stdout=terminal,
        stderr=subprocess.PIPE,
    ) as process:
        os.close(terminal)
        shown = read_terminal(master)
        status = process.wait(DEADLINE_SECONDS)

    assert shown == ""
    assert status == 2


def read_terminal(master):
    """Return what was written to a terminal, until its last writer has gone."""
    written = b""
    with suppress(OSError):  # which is how a terminal ends
        while piece := os.read(master, 65_536):
            written += piece
    os.close(master)
    return written.decode()
