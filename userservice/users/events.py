"""Handlers of messages about users."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from uuid import UUID

from chassis.background.outbox import Message
from chassis.backing_services import BackingServices
from chassis.errors import Unavailable, Undeliverable
from chassis.telemetry.tracing import personal, set_attributes, trace_function
from userservice.users import registration, service
from userservice.users.errors import UserNotFound
from userservice.users.queries import UserRow

logger = logging.getLogger(__name__)


@trace_function("send_welcome_email", {"email.type": "welcome"})
def send_welcome_email(services: BackingServices, message: Message) -> bool:
    """Send a new user a welcome e-mail; return False without a live user or a provider.

    Raises:
        Unavailable: the provider did not accept the e-mail; it has to be tried again.
        Undeliverable: it never will.
    """
    user_id = message.payload["user_id"]
    try:
        user = message.known or service.get_user(services.database, UUID(user_id))
    except UserNotFound:
        return False
    set_attributes({"user.id": user_id, **personal({"email.recipient": user.email})})
    started_at = time.perf_counter()
    try:
        is_sent = services.mailer.send(
            "welcome", to=user.email, variables={"name": user.name}, key=str(message.id)
        )
    except Unavailable as error:
        set_attributes({"email.result": "error", "email.error": error.detail})
        logger.warning("Failed to send welcome email", extra={"user_id": user_id}, exc_info=error)
        raise
    except Undeliverable as error:
        set_attributes({"email.result": "skipped", "email.error": error.detail})
        raise
    set_attributes({"email.result": "sent" if is_sent else "skipped"})
    if is_sent:
        duration_ms = round((time.perf_counter() - started_at) * 1000, 3)
        fields = {"user_id": user_id, "attempts": message.attempts, "duration_ms": duration_ms}
        logger.info("Welcome email sent", extra=fields)
    return is_sent


def read_recipients(
    services: BackingServices, messages: Sequence[Message]
) -> Mapping[UUID, UserRow]:
    """Read the users of many messages in one statement."""
    ids = {message.id: UUID(message.payload["user_id"]) for message in messages}
    users = service.get_users(services.database, set(ids.values()))
    return {key: users[user_id] for key, user_id in ids.items() if user_id in users}


HANDLERS = {registration.USER_REGISTERED: send_welcome_email}
READERS = {registration.USER_REGISTERED: read_recipients}
