"""A release makes a version of what CHANGELOG.md has below Unreleased."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from datetime import date

import pytest

from tests.support.processes import ROOT
from tools.release import UNRELEASED, ReleaseRefused, cut, notes, released, section

TODAY = date(2026, 1, 31)
TEXT = """\
# Changelog

Words.

## Unreleased

### Added

- A thing.

## 0.2.0 - 2025-12-24

### Fixed

- Another.

## 0.1.0 - 2025-11-01

- The first.
"""


def test_what_is_unreleased_gets_a_version_and_a_day():
    text = cut(TEXT, "0.3.0", TODAY)

    assert "## Unreleased\n\n## 0.3.0 - 2026-01-31\n\n### Added\n\n- A thing.\n" in text
    assert released(text) == ["0.3.0", "0.2.0", "0.1.0"]
    assert section(text, None) == ""


def test_a_first_version_needs_none_before_it():
    text = TEXT[: TEXT.index("## 0.2.0")]

    assert released(cut(text, "0.1.0", TODAY)) == ["0.1.0"]


@pytest.mark.parametrize(
    ("version", "reason"),
    [
        ("0.2.0", "not later than 0.2.0"),
        ("0.1.9", "not later than 0.2.0"),
        ("v0.3.0", "three numbers"),
        ("0.3", "three numbers"),
        ("0.03.0", "three numbers"),
        ("", "three numbers"),
    ],
)
def test_a_version_that_is_none_or_not_a_later_one_is_refused(version, reason):
    with pytest.raises(ReleaseRefused, match=reason):
        cut(TEXT, version, TODAY)


def test_versions_are_compared_as_numbers():
    text = cut(TEXT.replace("0.2.0", "0.9.0"), "0.10.0", TODAY)

    assert released(text)[0] == "0.10.0"


def test_nothing_is_no_release():
    with pytest.raises(ReleaseRefused, match="nothing below Unreleased"):
        cut(cut(TEXT, "0.3.0", TODAY), "0.4.0", TODAY)


def test_the_notes_are_the_entries_of_the_version_alone():
    assert notes(TEXT, "0.2.0") == "### Fixed\n\n- Another."
    assert notes(TEXT, "0.1.0") == "- The first."


def test_links_to_files_begin_where_the_files_are():
    text = TEXT.replace("A thing.", "[A](docs/a.md#b), [B](https://example.com), [C](#c).")

    found = notes(cut(text, "0.3.0", TODAY), "0.3.0", "https://example.org/v0.3.0/")

    links = "[A](https://example.org/v0.3.0/docs/a.md#b), [B](https://example.com), [C](#c)."
    assert found == f"### Added\n\n- {links}"


@pytest.mark.parametrize("version", ["0.3.0", "Unreleased", ""])
def test_a_version_without_entries_has_no_notes(version):
    with pytest.raises(ReleaseRefused, match="no entries"):
        notes(TEXT, version)


def test_the_changelog_of_the_project_has_the_form():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## .*$", text, re.MULTILINE)

    assert headings[0] == "## Unreleased"
    assert len(released(text)) == len(headings) - 1
    assert all(notes(text, each) for each in released(text))
    # The commit of a release has nothing that is unreleased, and is tested as well.
    assert section(text, None) or released(text)


def test_the_changelog_of_the_project_can_be_cut():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    more = text.replace(UNRELEASED, f"{UNRELEASED}\n- A thing.\n", 1)

    assert notes(cut(more, "99.0.0", TODAY), "99.0.0") == section(more, None)


def test_the_program_writes_the_version_and_says_what_is_next(tmp_path):
    (tmp_path / "tools").mkdir()
    program = shutil.copy(ROOT / "tools" / "release.py", tmp_path / "tools")
    (tmp_path / "CHANGELOG.md").write_text(TEXT, encoding="utf-8")

    first, again, read = (
        subprocess.run(
            [sys.executable, program, *arguments], capture_output=True, text=True, check=False
        )
        for arguments in (("cut", "0.3.0"), ("cut", "0.3.0"), ("notes", "0.3.0"))
    )

    assert (first.returncode, first.stderr) == (0, "")
    assert "git tag --annotate v0.3.0" in first.stdout
    assert (again.returncode, again.stderr) == (1, "0.3.0 is not later than 0.3.0\n")
    assert read.stdout == "### Added\n\n- A thing.\n"


@pytest.mark.parametrize(("arguments", "status"), [(["--help"], 0), ([], 1), (["cut"], 1)])
def test_the_program_says_how_it_is_used(arguments, status):
    program = [sys.executable, "tools/release.py", *arguments]

    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == status
    assert "release.py cut 1.2.3" in (done.stderr if status else done.stdout)
