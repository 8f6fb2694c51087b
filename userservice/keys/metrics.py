"""Metrics about API keys; the number of label values is bounded."""

from __future__ import annotations

from threading import Lock

from prometheus_client import Counter

from chassis.once import once
from chassis.telemetry.instruments import OTHER

# Keys that a process counts one by one: as many have room in the files of counts.
MOST_COUNTED = 128


def requests_of(key_id: str) -> Counter:
    """Return the count of requests with a key; those beyond the first MOST_COUNTED share one."""
    return _requests().labels(_labels().choose(key_id))


def prepare() -> None:
    """Show the count from the start."""
    _requests().labels(OTHER)


class Labels:
    """The ids that are values of a label, at most MOST_COUNTED."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._taken: set[str] = set()

    def choose(self, key_id: str) -> str:
        """Return the id, or OTHER when there are too many already."""
        with self._lock:
            if len(self._taken) < MOST_COUNTED:
                self._taken.add(key_id)
            return key_id if key_id in self._taken else OTHER


@once
def _labels() -> Labels:
    return Labels()


@once
def _requests() -> Counter:
    return Counter("api_key_requests_total", "Requests with an API key that holds.", ["key_id"])
