"""Scopes: the work that an API key may do."""

from __future__ import annotations

from enum import StrEnum
from typing import Self


class Scope(StrEnum):
    """The scopes of API keys; superusers, and the key of the environment, hold all of them."""

    USERS_READ = "users:read", "read and list users"
    USERS_WRITE = "users:write", "register users, change their names, delete them"
    USERS_ADMIN = (
        "users:admin",
        "their accounts: addresses, links to new passwords, suspension, roles, log-ins, erasure",
    )
    USERS_IMPORT = "users:import", "import users, and follow the jobs that do"
    USERS_EXPORT = "users:export", "all that is stored of one user, or of all"
    TOKENS_INTROSPECT = "tokens:introspect", "ask whether a token holds, and what it says"
    AUDIT_READ = "audit:read", "read the audit trail"
    KEYS_MANAGE = (
        "keys:manage",
        "make, list and revoke API keys, with no scope that the key itself lacks",
    )

    meaning: str

    def __new__(cls, value: str, meaning: str) -> Self:
        """Make a member of its name in the API, and of a phrase about it."""
        member = str.__new__(cls, value)
        member._value_, member.meaning = value, meaning
        return member


MEANINGS = {each.value: each.meaning for each in Scope}
