"""API keys for tests."""

from __future__ import annotations

from sqlalchemy import update

from chassis.storage.clock import read_time
from userservice.keys import service
from userservice.keys.queries import keys
from userservice.keys.schemas import KeyCreate
from userservice.scopes import Scope


def make_key(database, *scopes, name="billing", **values):
    """Make a key as an operator does; return its row and its text."""
    new = KeyCreate.model_validate({"name": name, "scopes": [*map(str, scopes)]} | values)
    return service.create_key(database, new)


def secret_of(key):
    """Return the part of a key that nobody can guess; it may have the sign between the parts."""
    return key.split("_", 2)[2]


def key_header(made):
    """Return the header of a caller with a key."""
    return {"X-API-Key": made.key}


def key_of(database, *scopes):
    """Make a key with scopes, known or not, or with none; return the header of its caller."""
    made = make_key(database, Scope.USERS_READ)
    set_key(database, made, scopes=list(scopes))
    return key_header(made)


def set_key(database, made, **values):
    """Change the columns of a key."""
    with database.connection() as connection:
        own = keys.c.id == made.row.id.hex
        connection.execute(update(keys).where(own).values(values))


def expire(database, made):
    """Let a key have expired just now."""
    with database.connection() as connection:
        now = read_time(connection)
    set_key(database, made, expires_at=now)
