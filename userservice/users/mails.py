"""Sending an e-mail to a user: its span, its log lines, its outcome."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from uuid import UUID

from chassis.background.outbox import Message
from chassis.backing_services import BackingServices
from chassis.errors import AppError, Unavailable, Undeliverable
from chassis.telemetry.tracing import personal, set_attributes

logger = logging.getLogger(__name__)

WELCOME = "welcome"


def send_mail(
    services: BackingServices,
    message: Message,
    template: str,
    *,
    to: tuple[UUID, str],
    variables: Mapping[str, str],
) -> bool:
    """Send a user, by id and address, the e-mail of a message, whose id is the e-mail's key.

    Returns:
        False when nothing is sent anywhere.

    Raises:
        Unavailable: the provider did not accept the e-mail; it has to be tried again.
        Undeliverable: it never will.
    """
    user_id, address = str(to[0]), to[1]
    set_attributes({"user.id": user_id, **personal({"email.recipient": address})})
    started_at = time.perf_counter()
    try:
        is_sent = services.mailer.send(
            template, to=address, variables=dict(variables), key=str(message.id)
        )
    except (Unavailable, Undeliverable) as error:
        _tell_failure(template, user_id, error)
        raise
    set_attributes({"email.result": "sent" if is_sent else "skipped"})
    if is_sent:
        duration_ms = round((time.perf_counter() - started_at) * 1000, 3)
        fields = {"user_id": user_id, "attempts": message.attempts, "duration_ms": duration_ms}
        _tell_success(template, fields)
    return is_sent


def _tell_failure(template: str, user_id: str, error: AppError) -> None:
    result = "error" if isinstance(error, Unavailable) else "skipped"
    set_attributes({"email.result": result, "email.error": error.detail})
    if result == "skipped":
        return  # the delivery tells it
    fields = {"user_id": user_id}
    if template == WELCOME:
        logger.warning("Failed to send welcome email", extra=fields, exc_info=error)
    else:
        fields |= {"template": template}
        logger.warning("Failed to send email", extra=fields, exc_info=error)


def _tell_success(template: str, fields: dict[str, object]) -> None:
    if template == WELCOME:
        logger.info("Welcome email sent", extra=fields)
    else:
        logger.info("Email sent", extra={**fields, "template": template})
