"""A process that is the first of its container ends on SIGTERM, whenever that comes."""

from __future__ import annotations

import ast
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.http.harness import ROOT
from tests.support.ports import children, free_port
from tests.support.waiting import eventually

NAMESPACE = ("unshare", "--fork", "--pid", "--kill-child", "--mount-proc")
GUNICORN = str(Path(sys.executable).with_name("gunicorn"))
COMMANDS = {
    "web": (sys.executable, "app.py"),
    "gunicorn": (GUNICORN,),
    "worker": (sys.executable, "app.py", "worker"),
    "admin": (sys.executable, "app.py", "admin", "import", "-"),
}


def is_possible():
    """Making a namespace of one's own takes a privilege."""
    result = subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False)
    return result.returncode == 0


def hears_sigterm(number):
    """Tell whether a process has a handler for SIGTERM."""
    status = Path(f"/proc/{number}/status").read_text()
    caught = int(re.findall(r"SigCgt:\s*(\w+)", status)[0], 16)
    return caught & 1 << (signal.SIGTERM - 1)


@pytest.mark.parametrize("file", ["app.py", "gunicorn.conf.py"])
def test_nothing_that_takes_time_is_imported_before_sigterm_is_heard(file):
    tree = ast.parse((ROOT / file).read_text())
    imported = [each for each in tree.body if isinstance(each, ast.Import | ast.ImportFrom)]
    calls = [each.lineno for each in ast.walk(tree) if isinstance(each, ast.Call)]

    before = [getattr(each, "module", None) for each in imported if each.lineno < min(calls)]

    assert set(before) == {"chassis.process.first_process"} | ({"__future__"} & set(before))


# Places at which an exception of the handler would not end the process.
SWALLOWED = {
    "callback": "weakref.ref(Referent(), lambda _: os.kill(1, signal.SIGTERM))",
    "finalizer": "Finalized()",
    "except": "catch()",
}
PROGRAM = """
import os, signal, time, weakref
from chassis.process.first_process import begin

begin()

class Referent:
    pass

class Finalized:
    def __del__(self):
        os.kill(1, signal.SIGTERM)

def catch():
    try:
        os.kill(1, signal.SIGTERM)
        time.sleep(30)
    except BaseException:
        pass

{place}
"""


@pytest.mark.parametrize("place", SWALLOWED.values(), ids=SWALLOWED.keys())
def test_sigterm_ends_the_first_process_wherever_it_finds_it(place):
    if not is_possible():
        pytest.skip("no namespaces here")
    program = PROGRAM.format(place=place)

    result = subprocess.run(
        [*NAMESPACE, sys.executable, "-c", program], cwd=ROOT, check=False, timeout=60
    )

    assert result.returncode == 128 + signal.SIGTERM


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.parametrize("seconds", [0, 0.5, 2.0])
@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS.keys())
def test_the_first_process_ends_on_sigterm_while_it_starts(command, seconds, tmp_path):
    if not is_possible():
        pytest.skip("no namespaces here")
    variables = {
        "PATH": os.environ.get("PATH", os.defpath),
        "PORT": str(free_port()),
        "DATABASE_URL": f"sqlite:///{tmp_path}/a.db",
        "REDIS_URL": "",
        "DELIVER_IN_WEB": "false",
    }
    with subprocess.Popen(
        [*NAMESPACE, *command],
        cwd=ROOT,
        env=variables,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        (child,) = eventually(lambda: children(process.pid))
        eventually(lambda: hears_sigterm(child))
        time.sleep(seconds)
        with suppress(ProcessLookupError):  # there was nothing to do
            os.kill(child, signal.SIGTERM)
        try:
            process.wait(60)
        finally:
            process.kill()
