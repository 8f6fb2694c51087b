"""Give a clone its own names: `make rename name=orders-api package=orders owner=acme`.

It needs no more than Python and git, since it comes before everything else. `name` becomes the
name of the service, its image, its Kubernetes objects, its monitoring jobs and its dashboard;
`package` becomes the Python package; `owner` is the account on GitHub, in links to runbooks, in
names of published images and before the teams of CODEOWNERS. Records stay as they are: locks,
benchmarks and the notice in LICENSE. So do the spans `user_service.*`: they belong to the resource
`users`.
"""  # noqa: INP001 - a program of its own

from __future__ import annotations

import argparse
import keyword
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "userservice"
# The dashboard's uid is the tightest place: Grafana takes 40 characters.
NAME = re.compile(r"[a-z](?:[a-z0-9-]{0,38}[a-z0-9])?")
IDENTIFIER = re.compile(r"[a-z][a-z0-9_]*")
OLD = re.compile(
    r"(?P<measured><!-- begin: (?P<table>[\w-]+) -->.*?<!-- end: (?P=table) -->)"
    r"|(?P<old>cloudnative-(?:user-api|app)|user-service|\buserservice\b|\b(?:User|user) service\b)"
    r"(?P<rest>[\w./-]*)(?P<gap> {3,})?",
    re.DOTALL,
)
# The account that the repository belongs to, in a link, in the name of an image or of a team.
OWNER = re.compile(r"(?P<before>github\.com/|ghcr\.io/|--repo |@)example(?=/)")
ACCOUNT = re.compile(r"[A-Za-z0-9](?:-?[A-Za-z0-9]){0,38}")
UNTOUCHED = ("LICENSE", "tools/rename.py", "*requirements*.txt", "benchmarks/results/*")
OF_THE_TEMPLATE = ("tests/test_rename.py",)  # renames a clone that has the first names
UNRELEASED = re.compile(r"(?<=^## Unreleased\n).*", re.MULTILINE | re.DOTALL)
CHANGES = "\n### Added\n\n- The first version.\n"
NEXT = """\
{name} lives in {package}/ now: {count} files have changed. Next:

  make format docs check  sorts the imports, writes what is generated, and does all that CI does
  README.md               its first lines say what the service is for
  LICENSE                 its notice stays, as it demands; add a line of your own
  .github/CODEOWNERS      its teams are asked for reviews: name yours
  git grep example\\. k8s shows the addresses that are to be yours
  git commit --all --message "Name the service {name}"
"""


class Refused(Exception):
    """The renaming cannot be done; no file has been changed."""


@dataclass(frozen=True, slots=True)
class Names:
    """The new names of the service."""

    name: str
    package: str
    owner: str

    def of(self, old: str) -> str:
        """Return the new name for an old one."""
        title = self.name.replace("-", " ")
        known = {PACKAGE: self.package, "User service": title.capitalize(), "user service": title}
        return known.get(old, self.name)

    def put_into(self, text: str) -> str:
        """Return a text with the new names; columns behind them, and measurements, stay."""
        return OWNER.sub(self._owner, OLD.sub(self._replacement, text))

    def _replacement(self, found: re.Match[str]) -> str:
        if found["measured"]:
            return found[0]
        new = self.of(found["old"]) + self.put_into(found["rest"])
        return new.ljust(len(found[0]) - 2) + "  " if found["gap"] else new

    def _owner(self, found: re.Match[str]) -> str:
        is_image = found["before"] == "ghcr.io/"  # whose name has small letters alone
        return found["before"] + (self.owner.lower() if is_image else self.owner)


def main() -> int:
    """Rename this clone; when that is refused, print one line and return 2."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--name", required=True)
    parser.add_argument("--package", required=True)
    parser.add_argument("--owner", required=True)
    names = Names(**vars(parser.parse_args()))
    try:
        check_tree()
        check_names(names)
    except Refused as error:
        sys.stderr.write(f"{error}\n")
        return 2
    count = rename(names)
    sys.stdout.write(NEXT.format(name=names.name, package=names.package, count=count))
    return 0


def check_names(names: Names) -> None:
    """Refuse names that a cluster, Python or GitHub would refuse later."""
    if not NAME.fullmatch(names.name):
        raise Refused(
            f"name={names.name}: it must be a DNS label of at most 40 characters, as orders-api is"
        )
    package = names.package
    if not IDENTIFIER.fullmatch(package) or keyword.iskeyword(package):
        raise Refused(f"package={package}: it must be a Python name in lower case, as orders is")
    if (ROOT / package).exists() or (ROOT / f"{package}.py").exists():
        raise Refused(f"package={package}: the project has a {package} already")
    if package in sys.stdlib_module_names or package in installed():
        raise Refused(f"package={package}: it would hide the installed module of that name")
    if not ACCOUNT.fullmatch(names.owner):
        raise Refused(f"owner={names.owner}: it must be an account of GitHub, as acme is")


def check_tree() -> None:
    """Refuse a tree that git cannot bring back, or that was renamed before."""
    if not (ROOT / PACKAGE / "__init__.py").exists():
        raise Refused(f"There is no {PACKAGE}/ any more: a clone is renamed once, at its beginning")
    if git("rev-parse", "--show-toplevel").strip() != str(ROOT):
        raise Refused(f"{ROOT} is no git repository, so nothing could be undone: git init first")
    if git("status", "--porcelain"):
        raise Refused("Commit or stash what has changed first, so that git can undo the renaming")


def installed() -> set[str]:
    """Return the modules of the locks, under the names they are asked for, and of environments."""
    locked = {
        name.lower().replace("-", "_")
        for lock in ROOT.glob("requirements*.txt")
        for name in re.findall(r"^([\w.-]+)==", lock.read_text(encoding="utf-8"), re.MULTILINE)
    }
    return locked | {each.stem for each in ROOT.glob(".venv*/lib/python*/site-packages/*")}


def rename(names: Names) -> int:
    """Put the new names into files and file names; return the number of changed files."""
    git("rm", "--quiet", "--ignore-unmatch", *OF_THE_TEMPLATE)
    for path in list(our_files()):
        edit(ROOT / path, names)
    while move := next(moves(names), None):
        git("mv", *move)
    git("add", "--all")
    return len(git("status", "--porcelain").splitlines())


def our_files() -> Iterator[str]:
    """Yield the files of the repository that carry names of ours."""
    for path in git("ls-files", "-z").split("\0"):
        if path and not any(fnmatchcase(path, each) for each in UNTOUCHED):
            yield path


def edit(file: Path, names: Names) -> None:
    """Put the new names into a file of text; its line ends and mode stay."""
    try:
        before = file.read_bytes().decode()
    except UnicodeDecodeError:
        return
    after = names.put_into(before)
    if file == ROOT / "CHANGELOG.md":
        after = UNRELEASED.sub(CHANGES, after)
    if after != before:
        file.write_bytes(after.encode())


def moves(names: Names) -> Iterator[tuple[str, str]]:
    """Yield the paths that carry an old name, each as far as its first, with the new one."""
    for path in our_files():
        parts = path.split("/")
        for depth, part in enumerate(parts):
            if (new := names.put_into(part)) != part:
                yield "/".join(parts[: depth + 1]), "/".join([*parts[:depth], new])
                break


def git(*arguments: str) -> str:
    """Return git's output."""
    command = ["git", "-C", str(ROOT), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Refused(done.stderr.strip().partition("\n")[0])
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
