"""Rules and transactions for passwords.

A new password ends log-ins, voids every link and a pending change of the address, and queues an
e-mail that tells of it: all of that happens, or none of it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from chassis.actor import ActorKind, known_as
from chassis.background import outbox
from chassis.backing_services import BackingServices
from chassis.errors import Unavailable
from chassis.links import InvalidLink
from chassis.passwords import is_guessable
from chassis.storage import audit
from chassis.storage.clock import database_time
from userservice import SERVICE_WORDS
from userservice.actions import Action, and_sessions
from userservice.logins.endings import Reason, report_ended
from userservice.passwords import queries
from userservice.passwords.errors import GuessablePassword
from userservice.passwords.metrics import Way, count_set
from userservice.passwords.queries import Standing
from userservice.passwords.schemas import NewPassword, PasswordChange, PasswordReset
from userservice.users import credentials, links
from userservice.users.addresses import mailbox_key
from userservice.users.credentials_queries import Checked
from userservice.users.errors import UserNotFound, UserSuspended
from userservice.users.links import Purpose
from userservice.users.links_queries import Holder
from userservice.users.messages import bound_to

logger = logging.getLogger(__name__)

PASSWORD_CHANGED = "user.password_changed"  # noqa: S105 - a topic
# An address that nobody verified is told of a change at most so often: it may be a stranger's, and
# an account's password can be changed back and forth.
QUIET = timedelta(minutes=12)
# How often a change looks again, because the stored hash changed while it was being verified.
ATTEMPTS = 3
# Purpose of a link -> the way to a new password that it opens.
WAYS = {
    Purpose.RESET: Way.RESET,
    Purpose.INVITATION: Way.INVITATION,
    Purpose.PRINTED: Way.PRINTED,
}
# They came by e-mail: to have them is to own the address.
MAILED = frozenset({Purpose.RESET, Purpose.INVITATION})


def change_password(
    services: BackingServices, user_id: UUID, change: PasswordChange, *, keep: UUID | None
) -> None:
    """Change a password by the present one; end the log-ins of the user, but for `keep`.

    Raises:
        UserNotFound: there is no such live user.
        GuessablePassword: the new one is weak.
        WrongPassword: the present one is another, or the user is suspended, who learns no more.
        Unavailable: too many passwords are being hashed, or this one changes all the time.
    """
    new_password, new_hash = change.new_password.get_secret_value(), None
    _refuse_guessable(new_password, _find_standing(services, user_id))
    for _ in range(ATTEMPTS):
        checked = credentials.check_password(
            services.database, services.hasher, user_id, change.current_password.get_secret_value()
        )
        new_hash = new_hash or services.hasher.hash(new_password)
        if _change(services, checked, new_hash, keep):
            return
    raise Unavailable


def reset_password(services: BackingServices, reset: PasswordReset) -> None:
    """Set a password by a link, and end all log-ins of the user; the link is spent.

    A link that came by e-mail shows that its user owns the address.

    Raises:
        InvalidLink: the link does not hold, and nothing was hashed.
        GuessablePassword: the password is weak; the link still holds.
        Unavailable: too many passwords are being hashed; the link still holds.
    """
    link, holder = links.check_link(services, reset.token.get_secret_value(), *WAYS)
    _refuse_guessable(reset.new_password.get_secret_value(), holder)
    values = _columns(services.hasher.hash(reset.new_password.get_secret_value()))
    if link.purpose in MAILED:
        values["verified_key"] = mailbox_key(holder.email)
    changed = _members(holder, values)
    with services.database.transaction() as connection:
        if not links.spend(connection, holder, values):
            raise InvalidLink
        ended = _follow(connection, holder.id)
        audit.record(
            connection,
            Action.PASSWORD_RESET,
            holder.id,
            changed=and_sessions(ended, *changed),
            by=known_as(ActorKind.USER, holder.id),
        )
    _report(holder.id, WAYS[Purpose(link.purpose)], ended)


def set_password(services: BackingServices, user_id: UUID, password: str) -> None:
    """Set a password for an operator, and end all log-ins of the user.

    Raises:
        InvalidRequest: the password is too short, too long, or weak.
        UserNotFound: there is no such live user.
        UserSuspended: the user gets none.
    """
    new = NewPassword.load_values({"new_password": password}).new_password.get_secret_value()
    standing = get_standing(services, user_id)
    _refuse_guessable(new, standing)
    values = {**_columns(services.hasher.hash(new)), **links.voided()}
    with services.database.transaction() as connection:
        if not queries.update_password(connection, user_id, values):
            raise UserSuspended
        ended = _follow(connection, user_id)
        changed = and_sessions(ended, "password")
        audit.record(connection, Action.PASSWORD_SET, user_id, changed=changed)
    _report(user_id, Way.OPERATOR, ended)


def get_standing(services: BackingServices, user_id: UUID) -> Standing:
    """Return what is known of a live user who may get a password.

    Raises:
        UserNotFound: there is no such live user.
        UserSuspended: the user gets none.
    """
    standing = _find_standing(services, user_id)
    if standing.is_suspended:
        raise UserSuspended
    return standing


def _find_standing(services: BackingServices, user_id: UUID) -> Standing:
    with services.database.connection() as connection:
        standing = queries.find_standing(connection, user_id)
    if standing is None:
        raise UserNotFound
    return standing


def _change(services: BackingServices, checked: Checked, new_hash: str, keep: UUID | None) -> bool:
    """Store a new hash; return False unless the one that was verified is still there."""
    values = {**_columns(new_hash), **links.voided()}
    with services.database.transaction() as connection:
        seen = checked.password_hash
        is_told = queries.may_be_told(connection, checked.id, quiet=QUIET)
        if not queries.update_password(connection, checked.id, values, seen=seen):
            return False
        ended = _follow(connection, checked.id, but=keep, is_told=is_told)
        changed = and_sessions(ended, "password")
        audit.record(connection, Action.PASSWORD_CHANGED, checked.id, changed=changed)
    _report(checked.id, Way.CHANGE, ended)
    return True


def _members(holder: Holder, values: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the members that a link is about to change."""
    is_news = "verified_key" in values and not holder.is_verified
    return ("password", "email_verified") if is_news else ("password",)


def _columns(new_hash: str) -> dict[str, Any]:
    # Tokens that name no log-in end as well.
    now = database_time()
    return {"password_hash": new_hash, "password_changed_at": now, "sessions_ended_at": now}


def _follow(
    connection: Connection, user_id: UUID, *, but: UUID | None = None, is_told: bool = True
) -> int:
    """End log-ins of a user whose row was just changed, and queue the e-mail; return how many."""
    ended = credentials.delete_log_ins(connection, user_id, but=but)
    if is_told:
        bound = bound_to(queries.read_email(connection, user_id))
        message = outbox.new_message(PASSWORD_CHANGED, {"user_id": str(user_id), **bound})
        connection.execute(outbox.INSERT, message)
    return ended


def _report(user_id: UUID, way: Way, ended: int) -> None:
    count_set(way)
    logger.info("Password set", extra={"user_id": str(user_id), "way": way.value})
    report_ended(user_id, ended, Reason.PASSWORD)


def _refuse_guessable(password: str, user: Standing | Holder) -> None:
    if is_guessable(password, user.email, user.name, names=SERVICE_WORDS):
        raise GuessablePassword
