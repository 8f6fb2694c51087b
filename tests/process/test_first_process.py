"""The first moments of a process: signals that are no reason to end, streams that are closed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.pipes import full_pipe
from tests.support.ports import free_port
from tests.support.processes import APP, ROOT, environment, finish, run, start
from tests.support.waiting import eventually

DIAGNOSIS = (signal.SIGUSR1, signal.SIGUSR2)
COMMANDS = {
    "web": (),
    "worker": ("worker",),
    "command": ("admin", "migrate"),
}
LIVES = """
import os, signal
from chassis.process.first_process import begin

begin()
os.kill(os.getpid(), signal.SIGUSR1)
os.kill(os.getpid(), signal.SIGUSR2)
print("lives")
"""
NEXT = """
import os, subprocess, sys
from chassis.process.first_process import begin

begin()
with open({file!r}, "w") as file:
    file.write(str(file.fileno()))
    child = [sys.executable, "-c", "import os; os.fstat(0), os.fstat(1), os.fstat(2)"]
    file.write(f" {{subprocess.run(child).returncode}} {{sys.stdout}}")
"""


def is_ready_for(pid, numbers):
    """Tell whether a process catches or ignores signals."""
    status = Path(f"/proc/{pid}/status").read_text()
    masks = [int(mask, 16) for mask in re.findall(r"Sig(?:Ign|Cgt):\s*(\w+)", status)]
    return all((masks[0] | masks[1]) & 1 << (number - 1) for number in numbers)


def test_signals_that_ask_for_stacks_or_lines_end_no_process_that_begins():
    result = run(sys.executable, "-c", LIVES)

    assert (result.returncode, result.stdout) == (0, "lives\n")


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS.keys())
def test_nor_one_whose_modules_are_being_loaded(command, tmp_path):
    variables = {
        "DATABASE_URL": f"sqlite:///{tmp_path}/a.db",
        "REDIS_URL": "",
        "PORT": str(free_port()),
        "WEB_CONCURRENCY": "1",
    }
    process = subprocess.Popen(
        [*APP, *command],
        cwd=ROOT,
        env=environment(variables),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    eventually(lambda: is_ready_for(process.pid, DIAGNOSIS))

    for number in DIAGNOSIS:
        process.send_signal(number)
    if command[:1] != ("admin",):
        eventually(lambda: is_ready_for(process.pid, [signal.SIGTERM]))
        process.terminate()
    result = finish(process)

    assert result.returncode == 0


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_no_file_gets_the_number_of_a_stream_that_is_closed(closed, tmp_path):
    file = tmp_path / "numbers"
    program = tmp_path / "program.py"
    program.write_text(NEXT.format(file=str(file)))

    run(
        "sh", "-c", f"exec {sys.executable} {program} {closed}", variables={"PYTHONPATH": str(ROOT)}
    )

    number, child, stdout = file.read_text().split(" ", 2)
    assert int(number) > 2
    assert child == "0"
    assert (stdout == "None") is (">&-" in closed.split())  # commands say that it is closed


@pytest.mark.parametrize("closed", ["2>&-", "2>/dev/full", ">&- 2>&-"])
def test_a_refusal_that_nobody_hears_has_its_status(closed):
    command = f"exec {' '.join(APP)} {closed}"

    result = run("sh", "-c", command, variables={"PORT": "none"})

    assert result.returncode == 2


def test_a_refusal_waits_for_no_reader():
    reader, writer = full_pipe()
    process = start(*APP, variables={"PORT": "none"}, stderr=writer)

    result = finish(process)
    os.close(reader)
    os.close(writer)

    assert result.returncode == 2


def test_the_usage_needs_no_stdout():
    result = run("sh", "-c", f"exec {' '.join(APP)} --help >&-")

    assert (result.returncode, result.stderr) == (0, "")
