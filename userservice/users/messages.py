"""Messages that follow from registrations and from changes of an address; `emails` sends them.

They are written in the transaction of what they follow from.
"""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import Connection

from chassis.background import outbox
from chassis.background.outbox import Message
from chassis.background.redaction import PRIVATE, private_of
from chassis.errors import Undeliverable
from chassis.security import fingerprint
from userservice.users.addresses import mailbox_key

# To the address in force, by a link that verifies it.
VERIFICATION_REQUESTED = "email.verification_requested"
# To the address that waits for its confirmation, by a link that puts it in force.
CHANGE_REQUESTED = "email.change_requested"
# To the address that was in force before.
EMAIL_CHANGED = "email.changed"

# Digest of the mailbox that a message is for.
MAILBOX = "mailbox"


def request_verification(connection: Connection, user_id: UUID, email: str) -> None:
    """Have a user asked to verify the address in force."""
    _write(connection, VERIFICATION_REQUESTED, user_id, **bound_to(email))


def request_confirmation(connection: Connection, user_id: UUID, email: str) -> None:
    """Have the pending address of a user asked to confirm itself."""
    _write(connection, CHANGE_REQUESTED, user_id, **bound_to(email))


def require_for(message: Message, email: str) -> None:
    """Refuse a message that was written for another mailbox, where it still tells.

    The limit of e-mails for each address counted that one. Messages that wait, because their
    mailbox takes none, would else all go to the address that the user has, or wants, next.

    Raises:
        Undeliverable: it was.
    """
    mailbox = private_of(message).get(MAILBOX)
    if mailbox is not None and mailbox != digest_of(email):
        raise Undeliverable("The message was for another address")


def announce_change(connection: Connection, user_id: UUID, *, former: str, new: str) -> None:
    """Have a former address told that the user has another one; no row has it any more.

    Nothing is told where both are spellings of one mailbox.
    """
    if mailbox_key(former) != mailbox_key(new):
        _write(connection, EMAIL_CHANGED, user_id, **{PRIVATE: {"former": former}})


def bound_to(email: str) -> dict[str, object]:
    """Return the members by which `require_for` knows the mailbox of a message."""
    return {PRIVATE: {MAILBOX: digest_of(email)}}


def digest_of(email: str) -> str:
    """Return the digest of an address's mailbox."""
    return fingerprint(mailbox_key(email).encode())


def _write(connection: Connection, topic: str, user_id: UUID, **more: object) -> None:
    message = outbox.new_message(topic, {"user_id": str(user_id), **more})
    connection.execute(outbox.INSERT, message)
