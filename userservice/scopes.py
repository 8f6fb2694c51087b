"""Scopes: the work that an API key may do."""

from __future__ import annotations

from enum import StrEnum


class Scope(StrEnum):
    """The scopes of API keys; superusers, and the key of the environment, hold all of them."""

    USERS_READ = "users:read"
    USERS_WRITE = "users:write"
    USERS_ADMIN = "users:admin"
    USERS_IMPORT = "users:import"
    USERS_EXPORT = "users:export"
    TOKENS_INTROSPECT = "tokens:introspect"
    AUDIT_READ = "audit:read"
    KEYS_MANAGE = "keys:manage"
