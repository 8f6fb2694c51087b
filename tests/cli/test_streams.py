"""Commands whose standard streams are closed, full or broken, and commands that are told to end."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from contextlib import closing

import pytest

from chassis.cli.output import written_whole
from chassis.storage.database import DatabaseManager
from tests.support import processes
from tests.support.factories import make_user
from tests.support.waiting import DEADLINE_SECONDS, eventually

FULL = "/dev/full"
FULL_DISK = "Error: No space left on device\n"
# Shell redirection -> exit status and messages of a command that has a result.
STREAMS = {
    ">/dev/full": (1, FULL_DISK),
    ">&-": (1, "Error: Standard output is closed; /dev/null takes what is not needed\n"),
    "2>&-": (0, ""),
    "2>/dev/full": (0, ""),
    ">/dev/full 2>/dev/full": (1, ""),
    "<&-": (0, ""),
}
RESULTS = ["config", "export -", "export-metrics -", "outbox list --json", "completion bash"]


@pytest.fixture
def variables(sqlite_url):
    """The environment of a command; the database has a user to export."""
    with closing(DatabaseManager(sqlite_url).initialize()) as database:
        make_user(database)
    return {"DATABASE_URL": sqlite_url, "REDIS_URL": ""}


def shell(command, variables, stdin=""):
    """Run an admin command in a shell, which redirects its streams."""
    line = f'"{sys.executable}" app.py admin {command}'
    return processes.run("/bin/sh", "-c", line, variables=variables, stdin=stdin)


@pytest.mark.skipif(not os.path.exists(FULL), reason="a device of Linux")  # noqa: PTH110 - as below
@pytest.mark.parametrize("redirection", STREAMS)
def test_a_stream_that_cannot_be_used_is_one_line_and_a_status(variables, redirection):
    status, message = STREAMS[redirection]

    result = shell(f"export - {redirection}", variables)

    assert (result.returncode, result.stderr) == (status, message)


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists(FULL), reason="a device of Linux")  # noqa: PTH110 - a device
@pytest.mark.parametrize("command", RESULTS)
def test_a_full_disk_fails_each_command_that_has_a_result_in_one_line(variables, command):
    result = shell(f"{command} >/dev/full", variables)

    assert (result.returncode, result.stderr) == (1, FULL_DISK)


@pytest.mark.parametrize(
    "command", ["import - <&-", "createsuperuser --email root@example.com --password-stdin <&-"]
)
def test_a_command_that_reads_a_closed_standard_input_says_so(variables, command):
    result = shell(command, variables)

    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "Error: Standard input is closed\n"


def test_a_reader_that_leaves_ends_the_command_without_a_word(variables):
    result = shell("export - | true", variables)

    assert (result.returncode, result.stderr) == (0, "")  # the status is that of `true`


def test_without_a_terminal_a_password_is_not_asked_for(variables):
    result = processes.run(
        "setsid",
        *processes.ADMIN,
        *("createsuperuser", "--email", "root@example.com"),
        variables=variables,
        stdin="correct horse battery\n",
    )

    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.splitlines()[-1] == (
        "Error: There is no terminal to ask at: use --password-stdin, or ADMIN_PASSWORD"
    )
    assert "{" not in result.stderr


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
    ids=str,
)
def test_a_command_that_is_told_to_end_leaves_no_part_and_no_traceback(
    variables, tmp_path, number, status
):
    target = tmp_path / "users"
    target.write_text("as it was")
    program = (
        "import sys, threading; sys.path.insert(0, '.');"
        "from userservice.jobs import exports;"
        "slow = lambda *_: (iter([b'x\\n']).__next__() if n == 0 else threading.Event().wait()"
        " for n in range(2));"
        "exports.export_users = slow;"
        "from admin import operate; operate(sys.argv[1:])"
    )
    command = [sys.executable, "-c", program, "export", str(target)]
    process = processes.start(*command, variables=variables)
    eventually(lambda: [*tmp_path.glob("users.*.part")])

    process.send_signal(number)
    result = processes.finish(process)

    assert result.returncode == status
    assert result.stderr in {"", "Error: Interrupted\n"}
    assert [each.name for each in tmp_path.glob("users*")] == ["users"]
    assert target.read_text() == "as it was"


def test_ctrl_c_while_modules_load_is_130_without_a_traceback(tmp_path, variables):
    # A module that takes its time stands for a slow disk.
    (tmp_path / "flask.py").write_text(
        "import sys, threading\nsys.stdout.write('loading')\nsys.stdout.flush()\n"
        "threading.Event().wait()\n"
    )
    command = [sys.executable, "app.py", "admin", "config"]
    environment = processes.environment(variables | {"PYTHONPATH": str(tmp_path)})
    with subprocess.Popen(
        command,
        cwd=processes.ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.read(7) == b"loading"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=DEADLINE_SECONDS)

    assert (process.returncode, errors) == (130, b"")


@pytest.mark.parametrize("umask", [0o022, 0o000])
def test_a_new_file_of_personal_data_is_for_its_owner_alone(tmp_path, umask):
    file = tmp_path / "users"
    before = os.umask(umask)
    try:
        with written_whole(file) as target:
            target.write(b"ada@example.com")
            (part,) = tmp_path.glob("*.part")
            assert stat.S_IMODE(part.stat().st_mode) == 0o600
    finally:
        os.umask(before)

    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_file_that_cannot_be_made_is_named_as_it_was_asked_for(tmp_path):
    file = tmp_path / "absent" / "users"

    with pytest.raises(FileNotFoundError) as caught, written_whole(file):
        pass

    assert caught.value.filename == str(file)
