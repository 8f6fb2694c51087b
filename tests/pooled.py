"""What tests run in a process of a pool, which imports it by its name."""

from __future__ import annotations

from opentelemetry import baggage

from userservice.tracing import log_fields


def surroundings():
    """Return the baggage and the log fields that a task finds around it."""
    return dict(baggage.get_all()), dict(log_fields.get())
