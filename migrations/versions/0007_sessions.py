"""Log-ins that can be seen and ended.

The release before reads and writes none of the new columns. It keeps the new unique index, too: a
family has one unspent token there as well, because the insertion of another follows a spending.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from chassis.storage.columns import UtcDateTime
from chassis.storage.migrations import add_columns, outside_transaction

revision = "0007"
down_revision = "0006"

TABLE = "refresh_tokens"
UNSPENT = sa.text("spent_at IS NULL")
ADDED: dict[str, dict[str, sa.types.TypeEngine[Any]]] = {
    "users": {"sessions_ended_at": UtcDateTime()},
    TABLE: {
        "refreshed_at": UtcDateTime(),
        "label": sa.String(32),
        "salt": sa.String(32),
    },
}
# Name -> columns, and whether it is unique.
INDEXES = {
    "uq_refresh_tokens_family_id": (["family_id"], True),
    "ix_refresh_tokens_unspent": (["user_id", "family_id"], False),
}


def upgrade() -> None:
    # Each table in a transaction of its own: to lock both would be to wait for who waits for us.
    add_columns("users", ADDED["users"])
    with outside_transaction():
        for name, (columns, is_unique) in INDEXES.items():
            # A first attempt may have come this far.
            op.drop_index(name, TABLE, if_exists=True, postgresql_concurrently=True)
            op.create_index(
                name,
                TABLE,
                columns,
                unique=is_unique,
                postgresql_where=UNSPENT,
                sqlite_where=UNSPENT,
                postgresql_concurrently=True,
            )
    add_columns(TABLE, ADDED[TABLE])


def downgrade() -> None:
    for name in INDEXES:
        op.drop_index(name, TABLE)
    for table, columns in ADDED.items():
        for name in columns:
            op.drop_column(table, name)
