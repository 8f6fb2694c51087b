"""Records the release at the last commit, then writes the next migration from the models.

Run it by make migration m="add teams".
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from alembic import command
from alembic.config import Config

from chassis.storage import migrations
from chassis.storage.database import DatabaseManager
from tests.support import servers

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parents[1]


def record_release(folder: Path) -> None:
    """Write what the last commit asks of PostgreSQL: the models of now lack their migration.

    Raises:
        CalledProcessError: there is no commit, or its models and migrations differ.
    """
    with tempfile.TemporaryDirectory() as clone:
        subprocess.run(["git", "clone", "--quiet", "--shared", ROOT, clone], check=True)
        record = [sys.executable, "-m", "tests.upgrades.record", str(folder)]
        subprocess.run(record, cwd=clone, check=True)


def write_migration(url: str, message: str) -> None:
    """Write what the models have and the migrations lack.

    Args:
        url: A database without tables. The tables in a developer's own would get in the way.
        message: The change, in a few words.
    """
    database = DatabaseManager(url).initialize()
    migrations.upgrade(database)
    config = Config(ROOT / "alembic.ini")
    with migrations.migrating(database) as config.attributes["connection"]:
        command.revision(config, message, autogenerate=True)
    database.close()


def main(message: str) -> None:
    """Do both, on a server of our own."""
    try:
        record_release(FOLDER)
    except subprocess.CalledProcessError:
        sys.exit("The last commit cannot be recorded: see docs/upgrades.md")
    with servers.PostgreSQLServer() as server:
        write_migration(server.url, message)


if __name__ == "__main__":
    main(sys.argv[1])
