"""A resource is added as the card in CONTRIBUTING.md says, and costs no more than it says."""

from __future__ import annotations

import sys

import pytest

from tests.exercise import steps
from tests.support.clone import MAKE, checked, clone, git, needs_git
from tests.support.processes import ROOT

pytestmark = [needs_git, pytest.mark.slow, pytest.mark.timeout(600)]
STRUCTURE = (
    "tests/test_architecture.py",
    "tests/test_docs.py",
    "tests/test_security_policy.py",
    "tests/http/test_auth.py",
    "tests/http/test_guards.py",
    "tests/storage/test_migrations.py",
    "tests/upgrades",
)
# Those that a new resource can break; what else is in these files is left to `make exercise`.
CONCERNED = (
    "teams or hides or every_route or no_route or generated or tree or every_relative_link"
    " or models_are or one_head or undone_and_done or takes_all or short or no_secret or nobody"
)


@pytest.fixture(scope="module")
def extended(tmp_path_factory):
    """A clone in which the card was followed."""
    folder = clone(tmp_path_factory.mktemp("exercise"))
    steps.add_teams(folder)
    return folder


def test_the_handwritten_lines_outside_of_the_new_folder_are_few():
    assert len({each.file for each in steps.EDITS}) <= 4
    assert sum(each.lines for each in steps.EDITS) <= 5


def test_nothing_else_was_touched_but_by_the_tools(extended):
    changed = {line[3:] for line in git(extended, "status", "--porcelain").splitlines()}
    latest = len([*(ROOT / "migrations" / "versions").glob("[0-9]*.py")])
    written = {
        "docs/access.md",
        "docs/errors.md",
        "docs/rooms.svg",
        f"migrations/versions/{latest + 1:04}_add_teams.py",
        f"tests/upgrades/{latest:04}.sql",
    }
    folders = {"userservice/teams/", "tests/teams/"}

    assert changed <= written | folders | {each.file for each in steps.EDITS + steps.TESTS}


def test_the_new_resource_passes_the_checks(extended):
    checked(extended, *MAKE, "lint", "contracts")
    checked(extended, sys.executable, "-m", "mypy", "userservice", "tests/teams", "migrations")


def test_the_new_resource_passes_its_tests_and_those_of_the_structure(extended):
    checked(
        extended, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider",
        "tests/teams", *STRUCTURE, "-k", CONCERNED,
    )  # fmt: skip
