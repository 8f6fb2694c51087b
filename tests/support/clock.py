"""A clock for tests that own the time."""

from __future__ import annotations


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now
