"""Rules and transactions for addresses: asked for with the password, in force once confirmed.

An address is verified while `verified_key` is its key. So no flag outlives a change, whichever
release makes it.
"""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from chassis.backing_services import BackingServices
from chassis.errors import Unavailable
from chassis.storage import audit
from chassis.storage.database import DatabaseManager
from userservice.actions import Action
from userservice.emails import queries
from userservice.emails.metrics import Event
from userservice.emails.reports import report
from userservice.emails.schemas import EmailChange
from userservice.users import credentials, links, messages
from userservice.users.credentials_queries import Checked
from userservice.users.errors import UserNotFound
from userservice.users.links_queries import find_holder
from userservice.users.service import conflict, key_columns

# How often a password is checked again, because the user's stamp changed meanwhile.
ATTEMPTS = 3

# Writes what the password was given for; tells whether the user is as the check saw it.
Write = Callable[[Connection, Checked], bool]
# Counts an e-mail to an address, or raises TooManyRequests, which undoes what was written. Called
# once the password is known to be right: a guess must not use up what the owner may ask for.
Count = Callable[[str], None]


def request_change(
    services: BackingServices, user_id: UUID, wish: EmailChange, *, count: Count
) -> None:
    """Note the address that a user wants, and have a link mailed to it.

    Whether another user has the address is not looked at: statements and their time are the same,
    and the worker mails nothing.

    Raises:
        WrongPassword: the current password is another one.
        UserNotFound: there is no such user any more.
        Unavailable: the user changes all the time, or too many passwords are verified.
    """

    def write(connection: Connection, checked: Checked) -> bool:
        if not queries.set_pending(connection, checked, wish.email):
            return False
        count(wish.email)
        messages.request_confirmation(connection, user_id, wish.email)
        audit.record(connection, Action.EMAIL_REQUESTED, user_id, changed=["pending_email"])
        return True

    _with_password(services, user_id, wish, write)
    report(Event.REQUESTED, user_id)


def change_at_once(
    services: BackingServices,
    user_id: UUID,
    wish: EmailChange,
    *,
    count: Count,
    is_announced: bool,
) -> None:
    """Put another address in force, without a confirmation.

    Raises:
        EmailTaken: another live user has the address.
        WrongPassword, UserNotFound, Unavailable: as for `request_change`.
    """

    def write(connection: Connection, checked: Checked) -> bool:
        if not links.spend(connection, checked, {"email": wish.email, **key_columns(wish.email)}):
            return False
        count(wish.email)
        if is_announced:
            messages.announce_change(connection, user_id, former=checked.email, new=wish.email)
        audit.record(connection, Action.EMAIL_CHANGED, user_id, changed=["email"])
        return True

    try:
        _with_password(services, user_id, wish, write)
    except IntegrityError as error:
        raise conflict(error) from error
    report(Event.CHANGED, user_id)


def request_verification(database: DatabaseManager, user_id: UUID) -> bool:
    """Have a link mailed that verifies the address in force; return False if it is verified.

    Raises:
        UserNotFound: there is no such user any more.
    """
    with database.transaction() as connection:
        holder = find_holder(connection, user_id)
        if holder is None:
            raise UserNotFound
        if holder.is_verified:
            return False
        messages.request_verification(connection, user_id, holder.email)
    return True


def _with_password(
    services: BackingServices, user_id: UUID, wish: EmailChange, write: Write
) -> None:
    """Check the password and write, as one: between both nobody has changed the user's stamp."""
    password = wish.current_password.get_secret_value()
    for _ in range(ATTEMPTS):
        # Before a connection is taken: it is slow on purpose.
        checked = credentials.check_password(services.database, services.hasher, user_id, password)
        with services.database.transaction() as connection:
            if write(connection, checked):
                return
    raise Unavailable
