"""The card "Add a resource" of CONTRIBUTING.md, step by step in a clone.

Run it with `make exercise`, which ends with `make check` in that clone.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from tests.support.clone import MAKE, checked, clone

# A newcomer's own files: the resource and its tests, each where it goes.
NEW = Path(__file__).resolve().parent / "new"


class Edit(NamedTuple):
    """A place in a file that exists already: what stands there, and what shall."""

    file: str
    before: str
    after: str

    @property
    def lines(self) -> int:
        """Lines that somebody writes by hand."""
        known = self.before.splitlines()
        return sum(each not in known for each in self.after.splitlines())


EDITS = (
    Edit(
        "userservice/resources.py",
        "from userservice.tokens.errors import oauth_members\n",
        "from userservice.teams.resource import RESOURCE as TEAMS\n"
        "from userservice.tokens.errors import oauth_members\n",
    ),
    Edit("userservice/resources.py", "    USERS,\n", "    USERS,\n    TEAMS,\n"),
    Edit(
        "userservice/scopes.py",
        '    USERS_READ = "users:read", "read and list users"\n',
        '    TEAMS_READ = "teams:read", "read all teams"\n'
        '    USERS_READ = "users:read", "read and list users"\n',
    ),
    Edit(
        "pyproject.toml",
        '    "jobs",\n',
        '    "teams",\n    "jobs",\n',
    ),
    Edit(
        "docs/architecture.md",
        "├── tokens/ ",
        "├── teams/             resource.py, routes.py, events.py, service.py, queries.py,"
        " models.py, schemas.py, errors.py\n├── tokens/ ",
    ),
)
# Every route has its line in the table of who may what, which is a test.
TESTS = (
    Edit(
        "tests/http/test_auth.py",
        '    ("GET", "/metrics"): (200,) * 7,\n',
        '    ("POST", "/teams"): (401, 401, 403, 415, 415, 415, 401),\n'
        '    ("GET", "/teams"): (401, 401, 403, 200, 200, 200, 401),\n'
        '    ("GET", "/teams/{id}"): (401, 401, 404, 403, 403, 404, 401),\n'
        '    ("GET", "/metrics"): (200,) * 7,\n',
    ),
)


def add_teams(folder: Path) -> None:
    """Add the resource to a clone."""
    shutil.copytree(NEW, folder, dirs_exist_ok=True)
    for edit in EDITS + TESTS:
        apply(edit, folder / edit.file)
    checked(folder, *MAKE, "migration", "m=add teams")
    checked(folder, *MAKE, "docs")


def apply(edit: Edit, file: Path) -> None:
    """Write what somebody would write by hand."""
    text = file.read_text(encoding="utf-8")
    if text.count(edit.before) != 1:
        raise ValueError(f"{edit.file} does not have once: {edit.before}")
    file.write_text(text.replace(edit.before, edit.after), encoding="utf-8")


def main() -> int:
    """Take all steps in a folder that is gone afterwards; return what `make check` returns."""
    with tempfile.TemporaryDirectory(prefix="exercise-") as name:
        folder = clone(Path(name))
        add_teams(folder)
        return subprocess.run([*MAKE, "check"], cwd=folder, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
