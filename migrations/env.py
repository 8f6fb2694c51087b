"""Alembic's entry: on the connection it is given, or on the configured database."""

from __future__ import annotations

from typing import Literal

from alembic import context
from alembic.autogenerate.api import AutogenContext
from alembic.operations.ops import MigrationScript
from sqlalchemy import Connection

from bootstrap import open_database
from chassis.storage.columns import Base, UtcDateTime
from chassis.storage.migrations import migrating, revisions
from config import AppConfig
from userservice import resources  # noqa: F401 - registers every table


def render_item(kind: str, item: object, autogen: AutogenContext) -> str | Literal[False]:
    """Write our column type into a generated migration together with its import."""
    if kind == "type" and isinstance(item, UtcDateTime):
        autogen.imports.add("from chassis.storage.columns import UtcDateTime")
        return "UtcDateTime()"
    return False


def number(_context: object, _revision: object, scripts: list[MigrationScript]) -> None:
    """Give a new migration the number after the last as its id, and so as its file's name."""
    last = max((int(each) for each in revisions() if each.isdecimal()), default=0)
    for script in scripts:
        script.rev_id = f"{last + 1:04}"


def migrate(connection: Connection) -> None:
    """Run the migrations, in the caller's transaction where there is one."""
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        compare_type=True,
        render_as_batch=True,  # SQLite changes a table by copying it
        render_item=render_item,
        process_revision_directives=number,
    )
    with context.begin_transaction():
        context.run_migrations()


given: Connection | None = context.config.attributes.get("connection")
if given is not None:
    migrate(given)
else:
    with migrating(open_database(AppConfig.from_env())) as opened:
        migrate(opened)
