"""The service's processes, started the way an operator starts them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support.waiting import DEADLINE_SECONDS

ROOT = Path(__file__).resolve().parent.parent.parent
APP = (sys.executable, str(ROOT / "app.py"))
# Not the script, which knows where it was installed and not where it is now.
GUNICORN = (sys.executable, "-m", "gunicorn")
ADMIN = (*APP, "admin")


def run(*command, variables=None, stdin="", stderr=subprocess.PIPE, cwd=ROOT):
    """Run a program to its end in an environment that holds `variables` alone."""
    return finish(start(*command, variables=variables, stderr=stderr, cwd=cwd), stdin)


def start(*command, variables=None, stderr=subprocess.PIPE, cwd=ROOT):
    """Start a program; `finish` it later."""
    return subprocess.Popen(
        command,
        cwd=cwd,
        env=environment(variables or {}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
    )


def finish(process, stdin=""):
    """Wait for a program's end; one that does not come is killed and fails the test."""
    with process:
        try:
            stdout, stderr = process.communicate(stdin, timeout=DEADLINE_SECONDS)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def environment(variables):
    """Return nothing but what a program needs to run at all, and `variables`."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"} | variables
