"""Reports of what became of addresses, after the transaction; no report holds an address."""

from __future__ import annotations

import logging
from uuid import UUID

from chassis.telemetry.log_event import LogEvent
from userservice.emails.metrics import Event, count_event

logger = logging.getLogger(__name__)
_LINES = {
    Event.REQUESTED: LogEvent(logger, "Change of e-mail address requested"),
    Event.CHANGED: LogEvent(logger, "E-mail address changed"),
    Event.VERIFIED: LogEvent(logger, "E-mail address verified"),
}


def report(event: Event, user_id: UUID) -> None:
    """Count and log an event."""
    count_event(event)
    _LINES[event].info(user_id=str(user_id))
