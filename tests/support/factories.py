"""Valid input with defaults; a test names only what it is about."""

from __future__ import annotations

from itertools import count

from chassis.security import PasswordHasher
from userservice.users import registration
from userservice.users.schemas import UserCreate

ADA = {"email": "ada@example.com", "name": "Ada Lovelace"}
CHEAP_HASHER = PasswordHasher(memory_kib=8, time_cost=1)

_numbers = count(1)


def make_user(database, *, is_superuser=False, **values):
    """Register a user with an address of its own."""
    defaults = {"email": f"user{next(_numbers)}@example.com", "name": "Test User"}
    new = UserCreate.model_validate(defaults | values)
    return registration.register_user(database, CHEAP_HASHER, new, is_superuser=is_superuser)
