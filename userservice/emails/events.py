"""Handlers of messages about addresses: each sends one e-mail, which shows no text of anybody."""

from __future__ import annotations

from uuid import UUID

from chassis.background.outbox import Message
from chassis.background.redaction import private_of
from chassis.backing_services import BackingServices
from chassis.errors import Undeliverable
from chassis.telemetry.tracing import trace_function
from userservice.emails import queries
from userservice.users import links, messages
from userservice.users.links import Purpose
from userservice.users.links_queries import Holder
from userservice.users.mails import send_mail


@trace_function("send_verification_email", {"email.type": "verify_email"})
def send_verification(services: BackingServices, message: Message) -> bool:
    """Mail the address in force a link that verifies it; return False if it is verified by now.

    Raises:
        Unavailable: the e-mail was not taken; it has to be tried again.
        Undeliverable: it never will be; or there is no such user any more.
    """
    holder, token = _make_link(services, message, Purpose.VERIFICATION)
    messages.require_for(message, holder.email)
    if holder.is_verified:
        return False
    variables = {"link": services.links.address(token)}
    to = (holder.id, holder.email)
    return send_mail(services, message, "verify_email", to=to, variables=variables)


@trace_function("send_confirmation_email", {"email.type": "change_email"})
def send_confirmation(services: BackingServices, message: Message) -> bool:
    """Mail the pending address a link that puts it in force; of two wishes the later one counts.

    Returns:
        False where another user has the address, who must not hear of it.

    Raises:
        Unavailable: as for `send_verification`.
        Undeliverable: so, too; or nothing is pending any more.
    """
    holder, token = _make_link(services, message, Purpose.CHANGE)
    to = (holder.id, str(holder.pending_email))
    messages.require_for(message, to[1])
    if _is_taken(services, holder):
        return False
    variables = {"link": services.links.address(token)}
    return send_mail(services, message, "change_email", to=to, variables=variables)


@trace_function("send_notice_email", {"email.type": "email_changed"})
def send_notice(services: BackingServices, message: Message) -> bool:
    """Tell a former address that its user has another one.

    Raises:
        Unavailable: as for `send_verification`.
        Undeliverable: so, too; or the message was settled once, which removed the address.
    """
    former = private_of(message).get("former")
    if former is None:
        raise Undeliverable("The former address is gone")
    to = (UUID(message.payload["user_id"]), former)
    return send_mail(services, message, "email_changed", to=to, variables={})


def _make_link(services: BackingServices, message: Message, purpose: Purpose) -> tuple[Holder, str]:
    user_id = UUID(message.payload["user_id"])
    return links.make_link(services, purpose, user_id, links.asked_at(message))


def _is_taken(services: BackingServices, holder: Holder) -> bool:
    with services.database.connection() as connection:
        return queries.is_taken(connection, str(holder.pending_email), but=holder.id)


HANDLERS = {
    messages.VERIFICATION_REQUESTED: send_verification,
    messages.CHANGE_REQUESTED: send_confirmation,
    messages.EMAIL_CHANGED: send_notice,
}
