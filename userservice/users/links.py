"""Links that users get: one is void once the password, the address or the standing has changed."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from chassis.background.outbox import Message
from chassis.backing_services import BackingServices
from chassis.errors import Undeliverable
from chassis.links import InvalidLink, Link
from chassis.security import same_secret
from chassis.storage.ids import moment_of
from userservice.users import links_queries as queries
from userservice.users.addresses import mailbox_key
from userservice.users.credentials_queries import Checked
from userservice.users.links_queries import Holder
from userservice.users.models import STAMP_LENGTH

SALT_LENGTH = STAMP_LENGTH // 2  # hexadecimal digits


class Purpose(StrEnum):
    """The purposes of links."""

    RESET = "reset"
    INVITATION = "invite"
    PRINTED = "printed"
    """A reset that an operator hands over: it tells nothing about the address."""
    VERIFICATION = "verify"
    CHANGE = "change"


def lifetimes(
    *, reset_seconds: int, invite_seconds: int, email_seconds: int
) -> dict[str, timedelta]:
    """Return purpose -> time for which a link holds."""
    seconds = {
        Purpose.RESET: reset_seconds,
        Purpose.PRINTED: reset_seconds,
        Purpose.INVITATION: invite_seconds,
        Purpose.VERIFICATION: email_seconds,
        Purpose.CHANGE: email_seconds,
    }
    return {purpose.value: timedelta(seconds=each) for purpose, each in seconds.items()}


def make_link(
    services: BackingServices, purpose: Purpose, user_id: UUID, made_at: datetime
) -> tuple[Holder, str]:
    """Return the token of a link, the same again at each try, and the user who gets it.

    Args:
        services: Their database and links.
        purpose: The link's.
        user_id: The user to whom the link is given.
        made_at: When it was asked for; see `asked_at`.

    Raises:
        Undeliverable: there is nobody to give it to, or it has expired.
    """
    holder = _stamped(services, user_id)
    bound = _bound(purpose, holder) if holder is not None else None
    if holder is None or bound is None:
        raise Undeliverable("There is nobody to give the link to")
    token = services.links.make(purpose, user_id, *bound, made_at=made_at)
    if not services.links.holds(services.links.read(token), *bound):
        raise Undeliverable("The link has expired")
    return holder, token


def asked_at(message: Message) -> datetime:
    """Return when a message was made, by the clock of its host, which no later try changes."""
    return moment_of(message.id) or message.claimed_at


def check_link(services: BackingServices, token: str, *purposes: Purpose) -> tuple[Link, Holder]:
    """Return a link that holds, and its user as the link was made for.

    Raises:
        InvalidLink: it does not hold, for whatever reason.
    """
    link = services.links.read(token)
    with services.database.connection() as connection:
        holder = queries.find_holder(connection, link.subject)
    bound = _bound(link.purpose, holder) if holder is not None else None
    is_right = bound is not None and services.links.holds(link, *bound)
    if holder is None or not is_right or link.purpose not in purposes:
        raise InvalidLink
    return link, holder


def spend(connection: Connection, holder: Holder | Checked, values: Mapping[str, Any]) -> bool:
    """Change a user by a link or the password, which voids all links.

    Returns:
        False, and nothing changed, when the user is no longer as the check saw it.

    Raises:
        IntegrityError: the new address belongs to another live user.
    """
    return queries.change_holder(connection, holder, {**voided(), **values})


def voided() -> dict[str, str | None]:
    """Return the columns that void all links of a user, and a pending change of the address."""
    return {"stamp": queries.new_stamp(), "pending_email": None}


def stamp_left_by(token: str, salt: str | None = None) -> str:
    """Return a stamp that tells by which link its row was left so.

    Half of it is random, and the other half is a code that the first one makes of the link. So a
    link is known again without a column, and somebody who has the link does not know the stamp.
    """
    salt = salt or secrets.token_hex(SALT_LENGTH // 2)
    return salt + hmac.digest(salt.encode(), token.encode(), "sha256").hex()[:SALT_LENGTH]


def was_left_by(holder: Holder, token: str) -> bool:
    """Tell whether this very link left a user's row as it is, and nothing has voided links since.

    Args:
        holder: The user.
        token: The link; it was spent with `stamp_left_by`.
    """
    stamp = holder.stamp or ""
    return same_secret(stamp_left_by(token, stamp[:SALT_LENGTH]), stamp)


def _stamped(services: BackingServices, user_id: UUID) -> Holder | None:
    with services.database.connection() as connection:
        holder = queries.find_holder(connection, user_id)
        if holder is None or holder.stamp is not None:
            return holder
        queries.give_stamp(connection, user_id)
        return queries.find_holder(connection, user_id)


def _bound(purpose: str, holder: Holder) -> tuple[str, ...] | None:
    """Return what a link depends on; None when there can be no link for the purpose.

    The address that it is sent to, the address in force, and the stamp.
    """
    target = holder.pending_email if purpose == Purpose.CHANGE else holder.email
    if target is None or holder.stamp is None:
        return None
    return (mailbox_key(target), mailbox_key(holder.email), holder.stamp)
