"""Handlers of messages about users."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

from chassis.background.outbox import Message
from chassis.backing_services import BackingServices
from chassis.telemetry.tracing import trace_function
from userservice.users import registration, service
from userservice.users.errors import UserNotFound
from userservice.users.mails import WELCOME, send_mail
from userservice.users.queries import UserRow


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
    return send_mail(
        services, message, WELCOME, to=(user.id, user.email), variables={"name": user.name}
    )


def read_recipients(
    services: BackingServices, messages: Sequence[Message]
) -> Mapping[UUID, UserRow]:
    """Read the users of many messages in one statement."""
    ids = {message.id: UUID(message.payload["user_id"]) for message in messages}
    users = service.get_users(services.database, set(ids.values()))
    return {key: users[user_id] for key, user_id in ids.items() if user_id in users}


HANDLERS = {registration.USER_REGISTERED: send_welcome_email}
READERS = {registration.USER_REGISTERED: read_recipients}
