"""SQL about addresses; the caller owns the connection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, select, update

from chassis.storage import audit
from userservice.users.credentials_queries import Checked
from userservice.users.links_queries import Holder
from userservice.users.queries import HAS_MAILBOX, IN_GOOD_STANDING, LIVE, mailbox_parameters, users


def set_pending(connection: Connection, checked: Checked, email: str) -> bool:
    """Note the address that a user wants; return False unless the user is as the check saw it."""
    statement = update(users).where(
        users.c.id == checked.id,
        users.c.stamp == checked.stamp,
        IN_GOOD_STANDING,
    )
    return bool(connection.execute(statement.values(pending_email=email)).rowcount)


def clear_pending(connection: Connection, holder: Holder, event: Mapping[str, Any]) -> None:
    """Forget the address that a user wanted, unless it is another one by now, and record it."""
    statement = update(users).where(
        users.c.id == holder.id, users.c.pending_email == holder.pending_email, LIVE
    )
    cleared = statement.values(pending_email=None).returning(users.c.id)
    audit.run_recorded(connection, cleared, event)


def is_taken(connection: Connection, email: str, *, but: UUID) -> bool:
    """Tell whether a live user other than `but` has this mailbox, in any spelling."""
    statement = select(users.c.id).where(HAS_MAILBOX, LIVE, users.c.id != but).limit(1)
    return connection.execute(statement, mailbox_parameters(email)).first() is not None
