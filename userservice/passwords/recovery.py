"""Recovery: a link by which a user without the present password gets a new one."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from uuid import UUID

from chassis.background import outbox
from chassis.background.outbox import Message
from chassis.backing_services import BackingServices
from chassis.errors import Undeliverable
from chassis.storage import audit
from chassis.storage.database import DatabaseManager
from userservice.actions import Action
from userservice.passwords import queries
from userservice.passwords.queries import NOBODY
from userservice.passwords.service import get_standing
from userservice.users import links, messages, superusers
from userservice.users.links import Purpose
from userservice.users.links_queries import Holder

logger = logging.getLogger(__name__)

RECOVERY_REQUESTED = "user.recovery_requested"


def ask_for_recovery(database: DatabaseManager, email: str) -> None:
    """Queue a reset for the user with an address, or a message that is skipped.

    One statement stores one row for every text, so that nobody learns whether it is an address of
    a user.
    """
    with database.prepared() as connection:
        queries.insert_recovery(connection, email, outbox.new_message(RECOVERY_REQUESTED, {}))


def recover(services: BackingServices, user_id: UUID) -> None:
    """Queue a reset for a user, or an invitation for one without a password.

    Raises:
        UserNotFound: there is no such live user.
        UserSuspended: the user gets none.
        SuperuserProtected: the user is out of reach of the one who acts.
    """
    standing = get_standing(services, user_id)
    purpose = Purpose.RESET if standing.has_password else Purpose.INVITATION
    bound = messages.bound_to(standing.email)
    payload = {"user_id": str(user_id), "purpose": purpose.value, **bound}
    with services.database.transaction() as connection:
        superusers.require_reach(connection, user_id)
        connection.execute(outbox.INSERT, outbox.new_message(RECOVERY_REQUESTED, payload))
        audit.record(connection, Action.RECOVERY_SENT, user_id)
    logger.info("Recovery requested", extra={"user_id": str(user_id), "purpose": purpose.value})


def make_printed_link(services: BackingServices, user_id: UUID) -> str:
    """Return the address of a link that an operator hands over; it verifies no address.

    Raises:
        UserNotFound: there is no such live user.
        UserSuspended: the user gets none.
        Undeliverable: there is no page that a link could lead to.
    """
    get_standing(services, user_id)
    _, token = links.make_link(services, Purpose.PRINTED, user_id, datetime.now(UTC))
    address = services.links.address(token, is_mailed=False)
    # Before the link leaves: nobody sees whether it was read.
    audit.begin(services.database, Action.RECOVERY_PRINTED, user_id)
    logger.info("Link printed", extra={"user_id": str(user_id)})
    return address


def find_link(services: BackingServices, message: Message) -> tuple[Purpose, Holder, str] | None:
    """Return purpose, user and address of the link that a message asks for; None for nobody.

    Raises:
        Undeliverable: the user is gone, got a new password since, or the link has expired.
    """
    user_id = UUID(message.payload["user_id"])
    if user_id == NOBODY:
        return None
    with services.database.connection() as connection:
        # A new password voids what was asked for before, also what has not been sent.
        if queries.has_changed_since(connection, user_id, _asked_at(message)):
            raise Undeliverable("The password has changed since")
    purpose = Purpose(message.payload.get("purpose", Purpose.RESET))
    holder, token = links.make_link(services, purpose, user_id, links.asked_at(message))
    messages.require_for(message, holder.email)
    return purpose, holder, services.links.address(token)


def _asked_at(message: Message) -> datetime:
    """Return when a link was asked for, by the clock of the database.

    An abandoned message that was queued again began anew by that clock: the id tells more then.
    """
    begun_at, made_at = message.expires_at - outbox.PATIENCE, links.asked_at(message)
    # Clocks differ by less.
    return made_at if begun_at - made_at > outbox.PATIENCE / 2 else begun_at
