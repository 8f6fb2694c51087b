"""The rules of the Makefile."""

from __future__ import annotations

import re

from tests.support.processes import ROOT

# It is a program, not a script, and knows no folder.
PROGRAMS = {"hadolint"}


def test_no_recipe_runs_a_script_which_a_clone_that_is_moved_would_break():
    recipes = (ROOT / "Makefile").read_text(encoding="utf-8")

    scripts = set(re.findall(r"\$\(\w+\)/bin/([\w-]+)", recipes))

    assert scripts - PROGRAMS == {"python"}
