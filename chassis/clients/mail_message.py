"""An e-mail as it travels: its header and its body, whatever its words hold."""

from __future__ import annotations

import email.policy
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from typing import NamedTuple, Self

from chassis.clients.mail_templates import Letter
from chassis.clients.smtp_connection import Mail
from chassis.errors import Undeliverable

# The beginning of an encoded word (RFC 2047).
ENCODED = "=?"
# Bodies in ASCII: not every server on the way takes more.
_POLICY = email.policy.SMTP.clone(cte_type="7bit")
_INTERNATIONAL = _POLICY.clone(utf8=True)


class Sender(NamedTuple):
    """The mailbox that e-mails come from; `name` is shown to people, or is empty."""

    name: str
    address: str

    @classmethod
    def read(cls, mailbox: str) -> Self:
        """Read a mailbox such as `Example <no-reply@example.com>`, or an address alone."""
        name, _, address = mailbox.rpartition("<")
        return cls(name.strip().strip('"'), address.strip().rstrip(">"))

    @property
    def domain(self) -> str:
        """The part behind the @."""
        return self.address.rpartition("@")[2]


def compose(letter: Letter, *, sender: Sender, to: str, key: str, now: datetime) -> Mail:
    """Write an e-mail.

    The library refuses line ends in a header, and encodes what is not ASCII. But it also decodes
    what looks encoded, and older releases write the line ends that they find inside: so nothing
    that looks so is given to it.

    Args:
        letter: Its words.
        sender: The mailbox that it comes from.
        to: The recipient's address.
        key: The same at each try, and so is the Message-ID, by which a mailbox can tell.
        now: The current time.

    Raises:
        Undeliverable: no e-mail can be sent to such an address.
    """
    recipient = _recipient(to)
    message = EmailMessage(policy=_POLICY)
    message["From"] = Address(_plain(sender.name), addr_spec=sender.address)
    message["To"] = recipient
    message["Subject"] = _plain(letter.subject)
    message["Date"] = now
    message["Message-ID"] = f"<{key}@{sender.domain}>"
    message["Auto-Submitted"] = "auto-generated"  # so that no holiday notice answers (RFC 3834)
    message.set_content(letter.text)
    message.add_alternative(letter.html, subtype="html")
    is_international = not recipient.username.isascii()
    content = message.as_bytes(policy=_INTERNATIONAL if is_international else _POLICY)
    return Mail(
        sender.address, f"{recipient.username}@{recipient.domain}", content, is_international
    )


def _plain(text: str) -> str:
    """Return a text in which nothing looks encoded."""
    return text.replace(ENCODED, "= ?")


def _recipient(to: str) -> Address:
    """Read an address, whose domain may be spelled as people do.

    Raises:
        Undeliverable: it is none, or none that can be written to a server as it is.
    """
    # Takes 40 ms to import, and only processes that send e-mails need it.
    import email_validator  # noqa: PLC0415

    try:
        found = email_validator.validate_email(to, check_deliverability=False)
    except email_validator.EmailNotValidError:
        # Without a cause: its words hold the address.
        raise Undeliverable("The recipient's address is none") from None
    if ENCODED in found.local_part:
        raise Undeliverable("The recipient's address looks like an encoded word")
    return Address(username=found.local_part, domain=found.ascii_domain)
