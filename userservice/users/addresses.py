"""E-mail addresses: the form that is stored, and the keys by which a mailbox is found."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import NamedTuple

import email_validator

from userservice.users.models import EMAIL_LENGTH

# The form of most local parts. With such a local part, only the domain decides about an address.
_PLAIN_LOCAL_PART = re.compile(r"[a-zA-Z0-9_+-]+(?:\.[a-zA-Z0-9_+-]+)*")
_LOCAL_LENGTH = 64


class _Domain(NamedTuple):
    """One domain as names on the wire have it (A-labels), and as people read it (U-labels)."""

    ascii: str
    unicode: str


class Keys(NamedTuple):
    """The keys of a mailbox.

    Attributes:
        mailbox: All spellings of the address share it, and no other address has it.
        spelling: The key that releases without `mailbox` give to the address in the spelling
            that people read.
    """

    mailbox: str
    spelling: str


def normalize(email: str) -> str:
    """Return an address with a domain in ASCII and a local part in NFC.

    Raises:
        ValueError: this is no address.
    """
    email = email.strip()
    local_part, _, typed = email.rpartition("@")
    domain = _domain(typed)
    if domain is None and _is_reserved(typed):
        raise ValueError("must not be at a reserved domain, such as test or localhost")
    if domain is None or not (_is_plain(local_part, typed) or _is_email(email)):
        # The validator's own text repeats parts of the address.
        raise ValueError("must be a valid e-mail address")
    normalized = _compose(local_part) + "@" + (typed if typed.isascii() else domain.ascii)
    if len(normalized) > EMAIL_LENGTH:
        raise ValueError("must be a valid e-mail address")
    return normalized


def keys_of(email: str) -> Keys:
    """Return the keys of an address; any text has some, so that it can be looked for.

    The domain is compared as resolvers do (UTS 46), and the local part without case.
    """
    email = email.strip()
    if email.isascii() and "xn--" not in (folded := email.lower()):
        return Keys(folded, folded)
    local_part, at, typed = email.rpartition("@")
    domain = _domain(_compose(typed))
    if domain is None:
        return Keys(fold(email), fold(email))
    return Keys(fold(local_part) + at + domain.ascii, fold(local_part) + at + fold(domain.unicode))


def mailbox_key(email: str) -> str:
    """Return the key that all spellings of an address share."""
    return keys_of(email).mailbox


def is_verified(email: str, verified_key: str | None) -> bool:
    """Tell whether the key that its owner has confirmed is that of the address in force."""
    return verified_key == mailbox_key(email)


def fold(text: str) -> str:
    """Fold the case of a text: the key that releases without `Keys.mailbox` give to a spelling."""
    if text.isascii():
        return text.lower()
    return _compose(_compose(text).casefold())


def _compose(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _is_plain(local_part: str, domain: str) -> bool:
    """Tell whether the domain alone decides about an address, which is short enough with it."""
    return (
        len(local_part) <= _LOCAL_LENGTH
        and len(local_part) + len(domain) < EMAIL_LENGTH
        and domain.isascii()
        and _PLAIN_LOCAL_PART.fullmatch(local_part) is not None
    )


def _is_email(value: str) -> bool:
    try:
        email_validator.validate_email(value, check_deliverability=False)
    except email_validator.EmailNotValidError:
        return False
    return True


def _domain(domain: str) -> _Domain | None:
    """Return the forms of a domain that makes an address with some local part."""
    return _read_domain(domain) if len(domain) <= EMAIL_LENGTH else None


def _is_reserved(domain: str) -> bool:
    """Tell whether a domain is one that never has a mail server, as developers like to type."""
    labels = domain.lower().split(".")
    ends = {".".join(labels[start:]) for start in range(len(labels))}
    return not ends.isdisjoint(email_validator.SPECIAL_USE_DOMAIN_NAMES)


# Users share domains, and the check of a domain is most of the work.
@lru_cache(maxsize=1024)
def _read_domain(domain: str) -> _Domain | None:
    try:
        found = email_validator.validate_email(f"x@{domain}", check_deliverability=False)
    except email_validator.EmailNotValidError:
        return None
    return _Domain(found.ascii_domain, found.domain)
