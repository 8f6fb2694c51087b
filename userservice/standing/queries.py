"""SQL about the standing of users; the caller owns the connection."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import (
    Connection,
    Text,
    case,
    cast,
    func,
    literal,
    null,
    select,
    update,
)

from chassis.security import LOCK
from chassis.storage import audit
from chassis.storage.clock import database_time
from userservice.logins import queries as logins
from userservice.users.addresses import is_verified
from userservice.users.queries import LIVE, STATUS, users


class AccountRow(NamedTuple):
    """All that concerns an account, beside the user's document."""

    email: str
    verified_key: str | None
    pending_email: str | None
    has_password: bool
    password_changed_at: datetime | None
    standing: str
    suspended_at: datetime | None
    suspension_reason: str | None
    is_superuser: bool
    roles: list[str]
    sessions: int = 0

    @property
    def email_verified(self) -> bool:
        """Whether the owner of the address in force has confirmed it."""
        return is_verified(self.email, self.verified_key)


_hash = users.c.password_hash
# A locked hash is no hasher's; what has no hash stays without one.
_SUSPENDED = {
    "suspended_at": database_time(),
    "password_hash": literal(LOCK, Text()) + _hash,
    # Ends tokens without `sid`, so that none of them works again after a reinstatement.
    "sessions_ended_at": database_time(),
}
_REINSTATED = {
    "suspended_at": null(),
    "suspension_reason": null(),
    "password_hash": case((_hash.startswith(LOCK), func.substr(_hash, len(LOCK) + 1)), else_=_hash),
}
_ACCOUNT = (
    *(users.c.email, users.c.verified_key, users.c.pending_email),
    *(_hash.is_not(None).label("has_password"), users.c.password_changed_at, STATUS),
    *(users.c.suspended_at, users.c.suspension_reason, users.c.is_superuser, users.c.roles),
)


def suspended(reason: str | None) -> dict[str, Any]:
    """Return the columns of a user who is suspended now, for an UPDATE."""
    return {**_SUSPENDED, "suspension_reason": reason}


def reinstated() -> dict[str, Any]:
    """Return the columns of a user who is suspended no longer, for an UPDATE."""
    return dict(_REINSTATED)


def change_user(connection: Connection, user_id: UUID, **values: Any) -> bool:
    """Change columns of a live user that its document does not show; False without such a user."""
    statement = update(users).where(users.c.id == user_id, LIVE)
    return bool(connection.execute(statement.values(values)).rowcount)


def change_reason(
    connection: Connection, user_id: UUID, reason: str | None, event: Mapping[str, Any]
) -> None:
    """Replace the reason of a suspension, and record it, if it is another one."""
    statement = update(users).where(
        users.c.id == user_id, LIVE, users.c.suspension_reason.is_distinct_from(reason)
    )
    changed = statement.values(suspension_reason=reason).returning(users.c.id)
    audit.run_recorded(connection, changed, event)


def set_roles(
    connection: Connection, user_id: UUID, roles: Sequence[str], event: Mapping[str, Any]
) -> bool:
    """Replace the roles of a live user, and record it.

    Returns:
        False if the user has these roles already; or without such a user.
    """
    # As text: PostgreSQL compares no JSON. Another text of the same list is another one, at worst.
    text = func.coalesce(cast(users.c.roles, Text), "[]")
    statement = update(users).where(users.c.id == user_id, LIVE, text != json.dumps(list(roles)))
    changed = statement.values(roles=list(roles)).returning(users.c.id)
    return audit.run_recorded(connection, changed, event) is not None


def find_account(connection: Connection, user_id: UUID) -> AccountRow | None:
    """Return the account of a live user."""
    row = connection.execute(select(*_ACCOUNT).where(users.c.id == user_id, LIVE)).first()
    if row is None:
        return None
    sessions = logins.count_living(connection, user_id)
    return AccountRow(*row)._replace(roles=row.roles or [], sessions=sessions)
