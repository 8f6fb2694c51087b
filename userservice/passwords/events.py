"""Handlers of messages about passwords."""

from __future__ import annotations

from uuid import UUID

from chassis.background.outbox import Message
from chassis.backing_services import BackingServices
from chassis.telemetry.tracing import set_attributes, trace_function
from userservice.passwords import recovery, service
from userservice.users.errors import UserNotFound
from userservice.users.links import Purpose
from userservice.users.mails import send_mail
from userservice.users.messages import require_for
from userservice.users.service import get_user

# Purpose of a link -> the e-mail that it comes with. None holds a name or another text that a
# stranger may have chosen: nobody may have verified the address.
TEMPLATES = {Purpose.RESET: "reset_password", Purpose.INVITATION: "invitation"}
PASSWORD_CHANGED = "password_changed"  # noqa: S105 - a template


@trace_function("send_recovery_email")
def send_recovery(services: BackingServices, message: Message) -> bool:
    """Send a user a link to a new password; return False for nobody, or without a provider.

    Raises:
        Unavailable: the provider did not accept the e-mail; it has to be tried again.
        Undeliverable: it never will, or the link is dead.
    """
    found = recovery.find_link(services, message)
    if found is None:
        return False
    purpose, holder, address = found
    template = TEMPLATES[purpose]
    set_attributes({"email.type": template})
    to = (holder.id, holder.email)
    return send_mail(services, message, template, to=to, variables={"link": address})


@trace_function("send_password_changed_email", {"email.type": PASSWORD_CHANGED})
def send_password_changed(services: BackingServices, message: Message) -> bool:
    """Tell a user of a new password; return False without a live user or a provider.

    Raises:
        Unavailable: the provider did not accept the e-mail; it has to be tried again.
        Undeliverable: it never will.
    """
    try:
        user = get_user(services.database, UUID(message.payload["user_id"]))
    except UserNotFound:
        return False
    require_for(message, user.email)
    return send_mail(services, message, PASSWORD_CHANGED, to=(user.id, user.email), variables={})


HANDLERS = {
    recovery.RECOVERY_REQUESTED: send_recovery,
    service.PASSWORD_CHANGED: send_password_changed,
}
