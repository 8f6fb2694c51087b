"""A key that all spellings of an address share.

`email_key` stays as it is, because the release before reads and writes it. The new key is filled
in here only where it differs: for domains beyond ASCII, and for those in their ASCII form. Users
whose mailbox is another user's keep the old key alone; a log line names them.
"""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Iterator
from typing import Any

import email_validator
import sqlalchemy as sa
from alembic import context, op

from chassis.storage.migrations import outside_transaction

revision = "0006"
down_revision = "0005"

logger = logging.getLogger(__name__)

INDEX = "uq_users_mailbox_key"
LIVE = sa.text("status <> 'deleted'")
users = sa.table(
    "users",
    sa.column("id", sa.Uuid()),
    sa.column("email", sa.Text()),
    sa.column("email_key", sa.Text()),
    sa.column("mailbox_key", sa.Text()),
)


def upgrade() -> None:
    with outside_transaction():
        # A first attempt may have come this far.
        op.drop_index(INDEX, "users", if_exists=True, postgresql_concurrently=True)
    if not _has_column():
        op.add_column("users", sa.Column("mailbox_key", sa.Text(), nullable=True))
    with outside_transaction():
        op.create_index(
            INDEX,
            "users",
            ["mailbox_key"],
            unique=True,
            postgresql_where=LIVE,
            sqlite_where=LIVE,
            postgresql_concurrently=True,
        )
    if not context.is_offline_mode():
        _fill()


def downgrade() -> None:
    op.drop_index(INDEX, "users")
    op.drop_column("users", "mailbox_key")


def _has_column() -> bool:
    columns = sa.inspect(op.get_bind()).get_columns("users")
    return any(each["name"] == "mailbox_key" for each in columns)


def _fill() -> None:
    shared = []
    for user_id, key in list(_differing()):
        row = sa.select(users.c.id).where(LIVE, users.c.id != user_id)
        others = row.where(sa.or_(users.c.mailbox_key == key, users.c.email_key == key))
        if op.get_bind().execute(others).first() is not None:
            shared.append(str(user_id))
            continue
        op.execute(users.update().where(users.c.id == user_id).values(mailbox_key=key))
    if shared:
        logger.warning(
            "Addresses belong to a mailbox of another user; see admin mailboxes",
            extra={"user_ids": shared[:100], "users": len(shared)},
        )


def _differing() -> Iterator[tuple[Any, str]]:
    """Yield id and key of the live users whose domain has several spellings, in id order."""
    # No index helps, but the table is read once, and few rows are found.
    # SQLite has no octet_length() before 3.43.
    octets = "octet_length(email)" if _is_postgresql() else "length(CAST(email AS BLOB))"
    found = sa.select(users.c.id, users.c.email).where(
        LIVE, sa.or_(sa.text(f"{octets} <> length(email)"), users.c.email_key.like("%xn--%"))
    )
    for user_id, email in op.get_bind().execute(found.order_by(users.c.id)):
        key = _key(email)
        if key is not None:
            yield user_id, key


def _is_postgresql() -> bool:
    return op.get_context().dialect.name == "postgresql"


def _key(email: str) -> str | None:
    """Return the key as of this migration; None when the domain is none any more."""
    local_part, _, domain = email.rpartition("@")
    try:
        found = email_validator.validate_email(f"x@{domain}", check_deliverability=False)
    except email_validator.EmailNotValidError:
        return None
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", local_part).casefold())
    return f"{folded}@{found.ascii_domain}"
