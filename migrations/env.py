"""Alembic's entry: on the connection it is given, or on the configured database."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection

from bootstrap import open_database
from config import AppConfig
from userservice import resources  # noqa: F401 - registers every table
from userservice.database import Base


def migrate(connection: Connection) -> None:
    """Run the migrations in the caller's transaction."""
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        compare_type=True,
        render_as_batch=True,  # SQLite changes a table by copying it
    )
    with context.begin_transaction():
        context.run_migrations()


given: Connection | None = context.config.attributes.get("connection")
if given is not None:
    migrate(given)
else:
    with open_database(AppConfig.from_env()).transaction() as opened:
        migrate(opened)
