"""Reports of log-ins that were ended, after the transaction that ended them."""

from __future__ import annotations

import logging
from uuid import UUID

from userservice.logins.metrics import Reason, count_ended

logger = logging.getLogger(__name__)

__all__ = ["Reason", "report_ended"]


def report_ended(user_id: UUID, number: int, reason: Reason) -> None:
    """Count and log that log-ins of a user have ended; nothing is told of none."""
    if number:
        count_ended(reason, number)
        told = {"user_id": str(user_id), "sessions": number, "reason": reason.value}
        logger.info("Sessions ended", extra=told)
