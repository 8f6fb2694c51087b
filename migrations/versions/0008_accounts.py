"""Passwords, addresses and standing of users; all of it is absent for users from before.

The release before reads and writes none of these columns.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from chassis.storage.columns import UtcDateTime
from chassis.storage.migrations import add_columns, outside_transaction

revision = "0008"
down_revision = "0007"

ADDED: dict[str, dict[str, sa.types.TypeEngine[Any]]] = {
    "users": {
        "stamp": sa.String(32),
        "verified_key": sa.Text(),
        "pending_email": sa.String(254),
        "password_changed_at": UtcDateTime(),
        "suspended_at": UtcDateTime(),
        "suspension_reason": sa.String(200),
        "roles": sa.JSON(),
    },
    "idempotency_keys": {"subject_id": sa.Uuid()},
    "jobs": {"ignored": sa.JSON()},
}
# Name -> condition, in the words of PostgreSQL and of SQLite.
INDEXES = {
    "ix_users_suspended": ("suspended_at IS NOT NULL", "suspended_at IS NOT NULL"),
    "ix_users_superusers": ("is_superuser", "is_superuser = 1"),
}


def upgrade() -> None:
    # Each table in a transaction of its own: to lock two would be to wait for who waits for us.
    add_columns("users", ADDED["users"])
    with outside_transaction():
        for name, (on_postgresql, on_sqlite) in INDEXES.items():
            # A first attempt may have come this far.
            op.drop_index(name, "users", if_exists=True, postgresql_concurrently=True)
            op.create_index(
                name,
                "users",
                ["id"],
                postgresql_where=sa.text(on_postgresql),
                sqlite_where=sa.text(on_sqlite),
                postgresql_concurrently=True,
            )
    add_columns("idempotency_keys", ADDED["idempotency_keys"])
    with outside_transaction():
        pass  # the second is committed
    add_columns("jobs", ADDED["jobs"])


def downgrade() -> None:
    for name in INDEXES:
        op.drop_index(name, "users")
    for table, columns in ADDED.items():
        for name in columns:
            op.drop_column(table, name)
