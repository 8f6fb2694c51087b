"""The rule of POST /auth/email/confirm: a link moves or verifies the account of its user alone."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy.exc import IntegrityError

from chassis.backing_services import BackingServices
from chassis.links import InvalidLink
from chassis.storage.database import DatabaseManager
from userservice.emails import queries
from userservice.emails.metrics import Event
from userservice.emails.reports import report
from userservice.users import links, messages
from userservice.users.links import Purpose
from userservice.users.links_queries import Holder
from userservice.users.service import conflict, key_columns


def confirm(services: BackingServices, user_id: UUID, token: str) -> None:
    """Do what a mailed link is for; a link that verifies may be used again.

    Args:
        services: The attached resources.
        user_id: The user who is logged in, and whose link it must be.
        token: The link.

    Raises:
        InvalidLink: the link does not hold, or is another user's.
        EmailTaken: another user has the address by now; nothing is pending any more.
    """
    link, holder = links.check_link(services, token, Purpose.VERIFICATION, Purpose.CHANGE)
    if link.subject != user_id:
        raise InvalidLink
    if link.purpose == Purpose.CHANGE:
        _move(services.database, holder)
    elif not holder.is_verified:
        _verify(services.database, holder)


def _verify(database: DatabaseManager, holder: Holder) -> None:
    with database.connection() as connection:
        # The stamp stays, so that the link works again, and others go on to hold.
        if not queries.set_verified(connection, holder):
            raise InvalidLink
    report(Event.VERIFIED, holder.id)


def _move(database: DatabaseManager, holder: Holder) -> None:
    """Put the pending address in force, where the link was mailed; it is verified with that."""
    new = str(holder.pending_email)
    keys = key_columns(new)
    values = keys | {"email": new, "verified_key": keys["mailbox_key"]}
    try:
        with database.transaction() as connection:
            if not links.spend(connection, holder, values):
                raise InvalidLink
            messages.announce_change(connection, holder.id, former=holder.email, new=new)
    except IntegrityError as error:
        with database.connection() as connection:
            queries.clear_pending(connection, holder)
        raise conflict(error) from error
    report(Event.CHANGED, holder.id)
