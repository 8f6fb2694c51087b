"""Metrics about addresses; every label value is bounded."""

from __future__ import annotations

from enum import StrEnum

from prometheus_client import Counter

from chassis.once import once


class Event(StrEnum):
    """The events in the life of an address, as users bring them about."""

    REQUESTED = "requested"  # a change, which waits until it is confirmed
    CHANGED = "changed"
    VERIFIED = "verified"


def count_event(event: Event) -> None:
    """Count an event."""
    _events(event).inc()


def prepare() -> None:
    """Show the counts from the start."""
    for event in Event:
        _events(event)


@once
def _events_family() -> Counter:
    return Counter("email_events_total", "Changes and verifications of addresses.", ["event"])


@once
def _events(event: Event) -> Counter:
    return _events_family().labels(event.value)
