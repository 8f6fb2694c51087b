"""Users as operators read them: as JSON, or in lines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from userservice.operators.queries import UserDetails
from userservice.users.addresses import mailbox_key

# Members that tell who a user is, or what somebody wrote about them.
PERSONAL = ("email", "name", "pending_email", "suspension_reason")


def document_of(user: UserDetails, *, is_personal: bool) -> dict[str, Any]:
    """Return a user as a JSON document.

    Args:
        user: The user.
        is_personal: Whether the members of PERSONAL are there.
    """
    known = user._asdict()
    known["email_verified"] = user.verified_key == mailbox_key(user.email)
    known["has_pending_email"] = user.pending_email is not None
    known["roles"] = list(user.roles or ())
    left_out = {"verified_key", *(() if is_personal else PERSONAL)}
    return {name: _plain(value) for name, value in known.items() if name not in left_out}


def line_of(user: UserDetails, *, is_personal: bool) -> str:
    """Return a user as a line of a list."""
    rights = "superuser" if user.is_superuser else "user"
    created_at = user.created_at.isoformat(timespec="seconds")
    personal = (user.email, user.name) if is_personal else ()
    return "  ".join([str(user.id), user.status, rights, created_at, *personal])


def lines_of(document: Mapping[str, Any]) -> str:
    """Return a document as lines of names and values."""
    return "\n".join(f"{name}: {_text(value)}" for name, value in document.items())


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds")
    return value if isinstance(value, (bool, int, list)) or value is None else str(value)


def _text(value: Any) -> str:
    if value is None or value == []:
        return "-"
    if isinstance(value, list):
        return ", ".join(value)
    return json.dumps(value) if isinstance(value, bool) else str(value)
