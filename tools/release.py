"""Versions in CHANGELOG.md: `make release version=1.2.3` makes one of what is unreleased.

python tools/release.py cut 1.2.3    give the entries below Unreleased this version and a date
python tools/release.py notes 1.2.3  print the entries of a version; with a URL behind it, links
                                     to files begin there, as the release's page needs them
"""  # noqa: INP001 - a program of its own

from __future__ import annotations

import re
import sys
from datetime import UTC, date, datetime
from pathlib import Path

CHANGELOG = Path(__file__).resolve().parent.parent / "CHANGELOG.md"
UNRELEASED = "## Unreleased\n"
VERSION = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)", re.ASCII)
HEADING = re.compile(
    r"^## (?:(?P<version>\d+\.\d+\.\d+) - \d{4}-\d{2}-\d{2}|Unreleased)$", re.MULTILINE
)
# The place of a link to a file; the page of a release lies elsewhere than the files.
RELATIVE = re.compile(r"(?<=\]\()(?!\w+:|[#/])")
NEXT = """\
CHANGELOG.md has the version {version}. Now:
  git commit --all --message "Release {version}"
  git tag --annotate v{version} --message {version}
  git push --follow-tags
"""


class ReleaseRefused(Exception):
    """The version cannot be released, for the reason in the text."""


def cut(text: str, version: str, on: date) -> str:
    """Return a changelog in which what is unreleased has a version.

    Raises:
        ReleaseRefused: it is no version, not a later one, or nothing is unreleased.
    """
    if not VERSION.fullmatch(version):
        raise ReleaseRefused(f"A version is three numbers, such as 1.2.3, not {version}")
    latest = max(map(_numbers, released(text)), default=(-1,))
    if _numbers(version) <= latest:
        raise ReleaseRefused(f"{version} is not later than {'.'.join(map(str, latest))}")
    if not section(text, None):
        raise ReleaseRefused("CHANGELOG.md has nothing below Unreleased")
    return text.replace(UNRELEASED, f"{UNRELEASED}\n## {version} - {on.isoformat()}\n", 1)


def notes(text: str, version: str, files: str = "") -> str:
    """Return the entries of a version.

    Args:
        text: The changelog.
        version: A version that was released.
        files: URL of the project's files at that version, at which links to files begin.

    Raises:
        ReleaseRefused: it has none.
    """
    if version not in released(text) or not (found := section(text, version)):
        raise ReleaseRefused(f"CHANGELOG.md has no entries for {version}")
    return RELATIVE.sub(f"{files.rstrip('/')}/", found) if files else found


def released(text: str) -> list[str]:
    """Return the versions that have a heading, the newest first."""
    return [each["version"] for each in HEADING.finditer(text) if each["version"]]


def section(text: str, version: str | None) -> str:
    """Return the text below the heading of a version; None is what is unreleased."""
    headings = [*HEADING.finditer(text)]
    for heading, following in zip(headings, [*headings[1:], None], strict=True):
        if heading["version"] == version:
            return text[heading.end() : following.start() if following else len(text)].strip()
    return ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def main(arguments: list[str]) -> None:
    """Do what the arguments say; end with status 1 and a line where it cannot be done."""
    text = CHANGELOG.read_text(encoding="utf-8")
    try:
        match arguments:
            case ["cut", version]:
                CHANGELOG.write_text(cut(text, version, datetime.now(UTC).date()), encoding="utf-8")
                sys.stdout.write(NEXT.format(version=version))
            case ["notes", version, *files] if len(files) <= 1:
                sys.stdout.write(f"{notes(text, version, *files)}\n")
            case ["-h" | "--help"]:
                sys.stdout.write(f"{__doc__}")
            case _:
                sys.exit(__doc__)
    except ReleaseRefused as refused:
        sys.exit(str(refused))


if __name__ == "__main__":
    main(sys.argv[1:])
