"""Actions: the deeds that the audit trail names.

The target of an action is the id of the user whom it is about, also where a log-in ends: that has
no row of its own afterwards, and its id alone would tell nobody whose it was. Where an action is
about something else, its comment says so; None is the target of what is about many.

`changed` names the members that a deed changed, as the documents of a user and of an account call
them; `password` is the password, and `sessions` are log-ins that the deed ended beside.
"""

from __future__ import annotations

from enum import StrEnum


class Action(StrEnum):
    """The actions of the audit trail. A name, once stored, keeps its meaning."""

    # Log-ins. A renewal is the same log-in, and one that fails is no deed.
    SESSION_BEGUN = "session.begun"
    SESSION_LOGGED_OUT = "session.logged_out"
    SESSION_ENDED = "session.ended"
    SESSION_REUSED = "session.reused"  # ended, because a spent refresh token came back
    SESSIONS_ENDED = "sessions.ended"  # all of a user, or all but that of the caller

    PASSWORD_CHANGED = "password.changed"  # noqa: S105 - by the present one
    PASSWORD_RESET = "password.reset"  # noqa: S105 - by a link
    PASSWORD_SET = "password.set"  # noqa: S105 - by an operator
    RECOVERY_SENT = "recovery.sent"  # a link to a new password, mailed for an administrator
    RECOVERY_PRINTED = "recovery.printed"  # the same, handed to an operator

    EMAIL_REQUESTED = "email.requested"  # the wish for another address, until that is confirmed
    EMAIL_CHANGED = "email.changed"  # at once, by the password
    EMAIL_CONFIRMED = "email.confirmed"  # another address in force, by a link
    EMAIL_VERIFIED = "email.verified"  # the address that was in force already
    EMAIL_DISCARDED = "email.discarded"  # the wish, because another user has the address by now

    USER_CREATED = "user.created"  # by another than the user
    USER_CHANGED = "user.changed"  # by another than the user
    USER_DELETED = "user.deleted"
    USER_ERASED = "user.erased"
    USER_EXPORTED = "user.exported"  # all that is stored of one person
    USER_SUSPENDED = "user.suspended"
    USER_REINSTATED = "user.reinstated"
    USER_PROMOTED = "user.promoted"
    USER_DEMOTED = "user.demoted"
    USER_ROLES_SET = "user.roles_set"

    # Many users at once; the target is the job, or None for a command.
    USERS_EXPORTED = "users.exported"
    USERS_BACKED_UP = "users.backed_up"  # with hashes, by a full export
    USERS_RESTORED = "users.restored"  # from a full export
    USERS_SESSIONS_ENDED = "users.sessions_ended"  # all log-ins of all users
    USERS_KEYED = "users.keyed"  # keys of mailboxes, for users of older releases
    IMPORT_CREATED = "import.created"
    IMPORT_CANCELLED = "import.cancelled"

    # The target is the id of the API key.
    KEY_CREATED = "key.created"
    KEY_REVOKED = "key.revoked"

    # Deeds of the chassis, which names them so. The target is the message, or None for several.
    MESSAGES_REQUEUED = "messages.requeued"
    AUDIT_PURGED = "audit.purged"


def and_sessions(ended: int, *members: str) -> tuple[str, ...]:
    """Return the members that a deed changed, and with them `sessions` if it ended log-ins."""
    return (*members, "sessions") if ended else members
