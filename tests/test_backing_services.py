"""The attached resources of a process are closed together."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest


class Failing:
    """A mailer that cannot be closed."""

    def close(self) -> None:
        raise OSError


def test_all_resources_are_closed_although_one_fails(services):
    mailer: Any = Failing()
    services.database.ping()

    with pytest.raises(OSError):  # noqa: PT011 - it has no text
        replace(services, mailer=mailer).close()

    assert services.database.pool_usage()["idle"] == 0
