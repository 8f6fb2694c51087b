"""Why a job failed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("reason", sa.String(300), nullable=True))


def downgrade() -> None:
    op.drop_column("jobs", "reason")
