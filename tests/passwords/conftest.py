"""Users with a password, and a hasher that counts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.factories import make_user
from tests.support.passwords import OLD, CountingHasher


@pytest.fixture
def counting(services):
    """The attached resources, whose hasher counts its work."""
    return replace(services, hasher=CountingHasher())


@pytest.fixture
def user(database):
    """A user with a password."""
    return make_user(database, password=OLD)
