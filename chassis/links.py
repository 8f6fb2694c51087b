"""Links for people, in e-mails and on paper: signed, for one purpose, until they expire.

A token carries its purpose, its subject and its expiry. Its code also covers values that it does
not carry, such as the state in which the subject was. So a link ends when they change, no table
holds it, and a reader of the database cannot make one.
"""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from chassis.errors import InvalidRequest, Undeliverable

MAX_LENGTH = 256
_LABEL = b"links of people"


class InvalidLink(InvalidRequest):
    """The token of a link is garbled, used, expired, or for another purpose; one text for all."""

    code = "invalid_token"
    title = "The link is not valid"
    remedy = "Ask for a new link: this one was used, has expired, or another one replaced it."


class Link(NamedTuple):
    """The content of a token, true only if `Links.holds` says so."""

    purpose: str
    subject: UUID
    expires_at: int
    """Seconds since 1970, UTC."""
    code: str


class Links:
    """Makes tokens of links, and checks those that come back.

    Args:
        secrets: The first one signs, all of them verify.
        page: Address of the page that links lead to; empty: there is none.
        lifetimes: Purpose -> time for which a link holds.
        unmailed: Why no e-mail may hold a link; empty: each may.
    """

    def __init__(
        self,
        *secrets: str,
        page: str,
        lifetimes: Mapping[str, timedelta],
        unmailed: str = "",
    ) -> None:
        self._keys = [_derived(secret) for secret in secrets if secret]
        self._page = page
        self._unmailed = unmailed
        self._lifetimes = dict(lifetimes)

    def make(self, purpose: str, subject: UUID, *bound: str, made_at: datetime) -> str:
        """Return the token of a link; the same again for the same arguments.

        Args:
            purpose: A key of the lifetimes.
            subject: The row that the link is about.
            bound: Values that must be the same when the link is used.
            made_at: When the link was asked for; its lifetime counts from then.
        """
        expires_at = int((made_at + self._lifetimes[purpose]).timestamp())
        code = _code(self._keys[0], _content(purpose, subject, expires_at), bound)
        return f"{purpose}.{subject.hex}.{expires_at}.{code}"

    def address(self, token: str, *, is_mailed: bool = True) -> str:
        """Return the address of a link; browsers send what follows the # to no server.

        Raises:
            Undeliverable: there is no page, or the link must not leave in an e-mail.
        """
        if not self._page:
            raise Undeliverable("ACCOUNT_URL and PUBLIC_URL are not set")
        if is_mailed and self._unmailed:
            raise Undeliverable(self._unmailed)
        return f"{self._page}#{token}"

    def read(self, token: str) -> Link:
        """Return the content of a token, whether it holds or not.

        Raises:
            InvalidLink: it is none.
        """
        try:
            purpose, subject, expires_at, code = token[:MAX_LENGTH].split(".")
            link = Link(purpose, UUID(hex=subject), int(expires_at), code)
        except ValueError as error:
            raise InvalidLink from error
        # Numbers and ids have several spellings; a token has one.
        spelt = f"{purpose}.{link.subject.hex}.{link.expires_at}.{code}"
        if not token.isascii() or not hmac.compare_digest(spelt, token):
            raise InvalidLink
        return link

    def holds(self, link: Link, *bound: str) -> bool:
        """Tell whether this service made a link, for these values, and it has not expired."""
        content = _content(link.purpose, link.subject, link.expires_at)
        is_ours = [
            hmac.compare_digest(_code(key, content, bound).encode(), link.code.encode())
            for key in self._keys
        ]
        is_known = link.purpose in self._lifetimes
        return any(is_ours) and is_known and datetime.now(UTC).timestamp() < link.expires_at


def _derived(secret: str) -> bytes:
    """Return a key for links alone (HKDF of RFC 5869 with SHA-256: extract, then one block)."""
    pseudorandom = hmac.digest(b"\0" * 32, secret.encode(), "sha256")
    return hmac.digest(pseudorandom, _LABEL + b"\1", "sha256")


def _content(purpose: str, subject: UUID, expires_at: int) -> tuple[str, ...]:
    return (purpose, subject.hex, str(expires_at))


def _code(key: bytes, content: tuple[str, ...], bound: tuple[str, ...]) -> str:
    # Each value with its length, so that no two lists of values read alike.
    values = [value.encode() for value in (*content, *bound)]
    message = b"".join(len(value).to_bytes(4) + value for value in values)
    return urlsafe_b64encode(hmac.digest(key, message, "sha256")).rstrip(b"=").decode()
