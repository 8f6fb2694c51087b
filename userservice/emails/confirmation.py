"""The rule of POST /auth/email/confirm: a link moves or verifies the account of its user alone."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy.exc import IntegrityError

from chassis.backing_services import BackingServices
from chassis.links import InvalidLink
from chassis.storage import audit
from chassis.storage.database import DatabaseManager
from userservice.actions import Action
from userservice.emails import queries
from userservice.emails.metrics import Event
from userservice.emails.reports import report
from userservice.users import links, messages
from userservice.users.addresses import mailbox_key
from userservice.users.links import Purpose
from userservice.users.links_queries import Holder, find_holder, set_verified
from userservice.users.service import conflict, key_columns


def confirm(services: BackingServices, user_id: UUID, token: str) -> None:
    """Do what a mailed link is for; followed again, a link that was followed changes nothing.

    Args:
        services: The attached resources.
        user_id: The user who is logged in, and whose link it must be.
        token: The link.

    Raises:
        InvalidLink: the link does not hold, or is another user's.
        EmailTaken: another user has the address by now; nothing is pending any more.
    """
    try:
        _follow(services, user_id, token)
    except InvalidLink:
        # A client whose answer was lost asks again, and two clicks may come at once.
        if not _was_followed(services.database, user_id, token):
            raise


def _follow(services: BackingServices, user_id: UUID, token: str) -> None:
    link, holder = links.check_link(services, token, Purpose.VERIFICATION, Purpose.CHANGE)
    if link.subject != user_id:
        raise InvalidLink
    if link.purpose == Purpose.CHANGE:
        _move(services.database, holder, token)
    elif not holder.is_verified and not _verify(services.database, holder):
        # Another click was first; or the user has changed, and the link holds no longer.
        _, now = links.check_link(services, token, Purpose.VERIFICATION)
        if not now.is_verified:
            raise InvalidLink


def _was_followed(database: DatabaseManager, user_id: UUID, token: str) -> bool:
    """Tell whether the user is as this very link, and nothing since, has left the row."""
    with database.connection() as connection:
        holder = find_holder(connection, user_id)
    return holder is not None and holder.is_verified and links.was_left_by(holder, token)


def _verify(database: DatabaseManager, holder: Holder) -> bool:
    event = audit.new_event(Action.EMAIL_VERIFIED, holder.id, changed=["email_verified"])
    with database.one_statement() as connection:
        # The stamp stays, so that the link works again, and others go on to hold.
        is_new = set_verified(connection, holder, mailbox_key(holder.email), event)
    if is_new:
        report(Event.VERIFIED, holder.id)
    return is_new


def _move(database: DatabaseManager, holder: Holder, token: str) -> None:
    """Put the pending address in force, where the link was mailed; it is verified with that."""
    new = str(holder.pending_email)
    keys = key_columns(new)
    left = {"verified_key": keys["mailbox_key"], "stamp": links.stamp_left_by(token)}
    try:
        with database.transaction() as connection:
            if not links.spend(connection, holder, {"email": new, **keys, **left}):
                raise InvalidLink
            messages.announce_change(connection, holder.id, former=holder.email, new=new)
            changed = ["email", "email_verified", "pending_email"]
            audit.record(connection, Action.EMAIL_CONFIRMED, holder.id, changed=changed)
    except IntegrityError as error:
        event = audit.new_event(Action.EMAIL_DISCARDED, holder.id, changed=["pending_email"])
        with database.one_statement() as connection:
            queries.clear_pending(connection, holder, event)
        raise conflict(error) from error
    report(Event.CHANGED, holder.id)
