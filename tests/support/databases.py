"""Tests of decisions in which no database has a part run on one of them."""

from __future__ import annotations

import pytest

ONE_DATABASE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
