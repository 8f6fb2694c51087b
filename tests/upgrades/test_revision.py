"""`make migration`, run as a developer does who has changed the models."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from chassis.storage import migrations
from chassis.storage.database import DatabaseManager
from tests.support.processes import ROOT
from tests.upgrades.statements import replay

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not (shutil.which("git") and shutil.which("make")), reason="git and make"),
]

HEAD = migrations.head()
NEXT = f"{int(HEAD) + 1:04}"
# A table with what Alembic finds hard to write, and a column of a table that a request fills.
MODELS = '''
from sqlalchemy import CheckConstraint, text as sql

class Example(Base):
    """Users who work together."""

    __tablename__ = "tests_examples"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)
    is_open: Mapped[bool] = mapped_column(server_default=sql("false"))
    created_at: Mapped[datetime]

    __table_args__ = (CheckConstraint(" AND ".join(["name <> 'a long condition'"] * 9), name="x"),)

Job.note = mapped_column(Text, nullable=True)
'''
# One process for all commands: most of the time of each goes into importing.
ALEMBIC = (
    "import sys; from alembic.config import main; [main(each.split()) for each in sys.argv[1:]]"
)


def run(*command, cwd, **variables):
    """Run a program to its end, which has to be a good one."""
    needed = {"PATH": os.environ["PATH"], "HOME": str(cwd), "LC_ALL": "C.UTF-8"}
    result = subprocess.run(
        command, cwd=cwd, env=needed | variables, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture
def clone(tmp_path):
    """A committed copy of the project, with the environment that runs the tests."""
    folder = tmp_path / "clone"
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").split()
    names = [".git", *(each.strip("/") for each in ignored)]
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*names))
    run("git", "init", "--quiet", cwd=folder)
    run("git", "add", "--all", cwd=folder)
    who = ("-c", "user.name=Ada", "-c", "user.email=ada@example.com")
    run("git", *who, "commit", "--quiet", "--message", "Release", cwd=folder)
    # Links to its parts, and a stamp of our own: make would install into it if that were old.
    (folder / ".venv").mkdir()
    for part in Path(sys.prefix).iterdir():
        if part.name != "stamp":
            (folder / ".venv" / part.name).symlink_to(part)
    (folder / ".venv" / "stamp").touch()
    return folder


def test_a_migration_is_written_in_one_go_and_stays_as_it_is(
    clone, empty_sqlite_url, empty_postgresql_url
):
    with (clone / "userservice" / "jobs" / "models.py").open("a", encoding="utf-8") as models:
        models.write(MODELS)

    run("make", "migration", "m=add examples", cwd=clone)

    file = clone / "migrations" / "versions" / f"{NEXT}_add_examples.py"
    written = file.read_text(encoding="utf-8")
    assert f'\nrevision = "{NEXT}"\ndown_revision = "{HEAD}"\n' in written
    assert written.startswith('"""Add examples."""\n')
    run(".venv/bin/python", "-m", "ruff", "check", "migrations", cwd=clone)
    run(".venv/bin/python", "-m", "ruff", "format", "--check", "migrations", cwd=clone)
    steps = ("upgrade head", "check", f"downgrade {HEAD}", "upgrade head")
    for url in (empty_sqlite_url, empty_postgresql_url):
        run(".venv/bin/python", "-c", ALEMBIC, *steps, cwd=clone, DATABASE_URL=url)
    # The release before is the last commit, not what the models have become.
    database = DatabaseManager(empty_postgresql_url).initialize()
    with closing(database), database.transaction() as connection:
        assert replay(connection, clone / "tests" / "upgrades" / f"{HEAD}.sql") > 50


def test_what_a_tool_can_repair_fails_neither_format_nor_lint(clone):
    ugly = clone / "chassis" / "ugly.py"
    names = ", ".join(f"'a_rather_long_name_{number}'" for number in range(9))
    ugly.write_text(f'"""Ugly."""\nimport sys\nimport os\n\nUGLY = [{names}, sys.path, os.sep]\n')

    run("make", "format", cwd=clone)

    run(".venv/bin/python", "-m", "ruff", "check", cwd=clone)
    run(".venv/bin/python", "-m", "ruff", "format", "--check", cwd=clone)
