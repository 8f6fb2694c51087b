"""The rules of the Makefile."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys

import pytest

from tests.support.clone import MAKE
from tests.support.processes import ROOT

# It is a program, not a script, and knows no folder.
PROGRAMS = {"hadolint", "shellcheck", "zizmor"}


def test_no_recipe_runs_a_script_which_a_clone_that_is_moved_would_break():
    recipes = (ROOT / "Makefile").read_text(encoding="utf-8")

    scripts = set(re.findall(r"\$\(\w+\)/bin/([\w-]+)", recipes))

    assert scripts - PROGRAMS == {"python"}


def test_emails_are_printed_by_make_run_and_by_no_other_target():
    lines = (ROOT / "Makefile").read_text(encoding="utf-8").splitlines()

    setting = [line for line in lines if "EMAIL_ON_TERMINAL" in line]

    assert setting == ["run: export EMAIL_ON_TERMINAL ?= true"]


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
@pytest.mark.parametrize(
    ("target", "example"),
    [
        ("migration", 'm="add teams"'),
        ("rename", "name=orders-api package=orders owner=acme"),
        ("release", "version=0.1.0"),
    ],
)
def test_a_target_that_lacks_its_argument_shows_it(target, example):
    done = subprocess.run(
        [*MAKE, "--silent", f"PYTHON={sys.executable}", target],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    line, _ = done.stderr.splitlines()  # the second is of make itself
    assert line.startswith("Say ")
    assert line.endswith(f": make {target} {example}")
    assert done.returncode == 2
