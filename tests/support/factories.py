"""Valid input with defaults; a test names only what it is about."""

from __future__ import annotations

import time
from functools import partial
from itertools import count

from app import make_token_issuer
from chassis.security import PasswordHasher
from chassis.storage.ids import uuid7
from tests.support.waiting import eventually
from userservice.logins.queries import LogIn
from userservice.users import registration
from userservice.users.schemas import UserCreate

ADA = {"email": "ada@example.com", "name": "Ada Lovelace"}
CHEAP_HASHER = PasswordHasher(memory_kib=8, time_cost=1)

NANOSECONDS = 1_000_000  # in a millisecond, the unit of ids

_numbers = count(1)


def make_user(database, *, is_superuser=False, **values):
    """Register a user with an address of its own."""
    defaults = {"email": f"user{next(_numbers)}@example.com", "name": "Test User"}
    new = UserCreate.model_validate(defaults | values)
    return registration.register_user(database, CHEAP_HASHER, new, is_superuser=is_superuser)


def in_order(made):
    """Return rows whose ids tell their order; those of one millisecond would tell none.

    Args:
        made: Yields each row when it has been made.
    """
    rows = []
    for each in made:
        rows.append(each)
        eventually(partial(_is_past, time.time_ns() // NANOSECONDS))
    return rows


def _is_past(millisecond):
    return time.time_ns() // NANOSECONDS > millisecond


def begin_log_in(database, config, user, label=None):
    """Log a user in, as if with a password; return the tokens."""
    with database.transaction() as connection:
        return make_token_issuer(config).begin(connection, LogIn(user.id, uuid7(), label))


def bearer_of(database, config, user):
    """Log a user in; return the header that names this log-in."""
    return {"Authorization": f"Bearer {begin_log_in(database, config, user).access_token}"}
