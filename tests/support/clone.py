"""Clones of this repository that tests may change, with the files as they are now."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import ROOT

DEADLINE_SECONDS = 500
# Not resolved: a virtual environment is known by the link to its interpreter.
ENVIRONMENT = Path(sys.executable).parent.parent
LINK = ".venv"
KNOWN_TYPES = ".mypy_cache"
# With the environment of these tests; it is older than a clone's locks, and yet up to date.
# make knows no path with a space, so a clone has a link to it.
MAKE = (
    *("make", "--no-print-directory", "-o", f"{LINK}/stamp"),
    *(f"DEV={LINK}", f"RUN={LINK}", f"PYTHON={LINK}/bin/{Path(sys.executable).name}"),
)
needs_git = pytest.mark.skipif(
    not (ROOT / ".git").exists() or not all(map(shutil.which, ("git", "make"))),
    reason="cloning needs the repository, git and make",
)


def clone(folder):
    """Fill a folder with the files of this repository, and commit them."""
    listing = git(ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in listing.rstrip("\0").split("\0"):
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    (folder / LINK).symlink_to(ENVIRONMENT)
    if (ROOT / KNOWN_TYPES).exists():  # goes by the content of files, so it holds for the copies
        shutil.copytree(ROOT / KNOWN_TYPES, folder / KNOWN_TYPES)
    git(folder, "init", "--quiet")
    commit(folder)
    return folder


def commit(folder):
    """Commit all that has changed in a clone."""
    git(folder, "add", "--all")
    git(folder, *("-c", "user.name=t", "-c", "user.email=t@example.com"), "commit", "-qm", "test")


def git(folder, *arguments):
    """Return what git says."""
    return checked(folder, "git", "-c", "safe.directory=*", *arguments).stdout


def checked(folder, *command):
    """Run a program in a clone; it fails the test when it fails."""
    done = run_in(folder, *command)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-8000:]}{done.stderr[-4000:]}"
    return done


def run_in(folder, *command):
    """Run a program in a clone; tests that it runs start servers of their own."""
    ours = {"TEST_DATABASE_URL", "TEST_REDIS_URL", "PYTHONPATH"}
    env = {
        name: value
        for name, value in os.environ.items()
        if name not in ours and not name.startswith(("PYTEST_", "COV_", "GIT_", "MAKE", "MFLAGS"))
    }
    return subprocess.run(
        command,
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_SECONDS,
    )
