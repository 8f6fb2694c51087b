"""The kinds of settings: the texts that a variable accepts, and their values."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import SplitResult, urlsplit

from chassis.settings.masking import mask_all, mask_url
from chassis.settings.url_options import check_mail_server, check_options, check_separators


@dataclass(frozen=True, slots=True)
class Kind:
    """Turns the text of a variable into a value.

    `accepts` describes the accepted texts in a phrase; `parse` raises ValueError for others.
    `mask` returns the part of a secret that may be shown.
    """

    accepts: str
    parse: Callable[[str], Any]
    mask: Callable[[str], str] = mask_all


def text() -> Kind:
    """Accept any text; bytes that are no text would fail later, at the first use."""

    def parse(raw: str) -> str:
        raw.encode()  # raises a ValueError
        return raw

    return Kind("text in UTF-8", parse)


def header() -> Kind:
    """Accept what a client can send as a header's value; a line end behind it is dropped."""

    def parse(raw: str) -> str:
        value = raw.rstrip("\r\n")
        if not re.fullmatch(r"[!-~]*", value, re.ASCII):
            raise ValueError(raw)
        return value

    return Kind("letters, digits and signs of ASCII without a blank", parse)


def integer(low: int, high: int) -> Kind:
    """Accept whole numbers from `low` to `high`."""

    def parse(raw: str) -> int:
        if not re.fullmatch(r"\d{1,12}", raw, re.ASCII) or not low <= int(raw) <= high:
            raise ValueError(raw)
        return int(raw)

    return Kind(f"a whole number from {low} to {high}", parse)


def ip_address() -> Kind:
    """Accept an address of IPv4 or IPv6."""
    return Kind("an IP address", lambda raw: str(ipaddress.ip_address(raw)))


def seconds(low: float, high: float) -> Kind:
    """Accept durations in seconds, fractions included."""

    def parse(raw: str) -> float:
        if not re.fullmatch(r"\d{1,9}(\.\d{1,9})?", raw, re.ASCII) or not low <= float(raw) <= high:
            raise ValueError(raw)
        return float(raw)

    return Kind(f"seconds from {low:g} to {high:g}", parse)


def boolean() -> Kind:
    """Accept the usual spellings of true and false, in any case."""
    spellings = dict.fromkeys(("true", "1", "yes", "on"), True)
    spellings |= dict.fromkeys(("false", "0", "no", "off"), False)
    return Kind("true, false, 1, 0, yes, no, on or off", _lookup(spellings))


def choice(*values: str) -> Kind:
    """Accept one of `values`, in any case."""
    return Kind(_either(values), _lookup({value.lower(): value for value in values}))


def member(enum: type[StrEnum]) -> Kind:
    """Accept the full value of a member, in any case; short forms are not guessed at."""
    return Kind(_either(map(str, enum)), _lookup({str(each): each for each in enum}))


def subset(*values: str) -> Kind:
    """Accept a comma-separated choice of `values`, none of them included."""

    def parse(raw: str) -> frozenset[str]:
        chosen = frozenset(part.strip().lower() for part in raw.split(",") if part.strip())
        if not chosen <= set(values):
            raise ValueError(raw)
        return chosen

    return Kind(f"a comma-separated list out of {', '.join(values)}", parse)


def url(*schemes: str) -> Kind:
    """Accept a URL with one of `schemes`, as strictly as the library that will open it."""

    def parse(raw: str) -> str:
        scheme = raw.partition("://")[0]
        parts = urlsplit(raw)
        is_readable = raw.isprintable() and raw == raw.strip()
        if scheme not in schemes or not is_readable or not _has_host(parts, scheme):
            raise ValueError(raw)
        if parts.port == 0:  # raises ValueError when it is no number; libraries read 0 as none
            raise ValueError(raw)
        check_separators(raw)
        check_options(raw)
        check_mail_server(raw)
        return raw

    beginnings = _either([f"{scheme}://" for scheme in schemes])
    return Kind(f"a URL that begins with {beginnings}", parse, mask_url)


def _has_host(parts: SplitResult, scheme: str) -> bool:
    """Tell whether a URL names a host, if its scheme needs one."""
    if scheme in {"sqlite", "unix"}:  # a path follows
        return not parts.hostname
    if scheme.startswith("postgres"):  # its client library has a default
        return not parts.netloc.endswith(":")
    return bool(parts.hostname)


def mailbox() -> Kind:
    """Accept an address that every mail server takes, and a name before it for people."""

    def parse(raw: str) -> str:
        found = re.fullmatch(r'(?:("?)([^<>"]+)\1\s*<([^<>\s]+)>|([^<>\s]+))', raw.strip())
        if found is None or not raw.isprintable():
            raise ValueError(raw)
        address = _ascii_address(found[3] or found[4])
        return f"{found[2].strip()} <{address}>" if found[2] else address

    return Kind("an address such as no-reply@example.com, or Example <no-reply@example.com>", parse)


def _ascii_address(raw: str) -> str:
    """Return an address with its domain in ASCII.

    Raises:
        ValueError: it is none, its local part goes beyond ASCII, or looks like an encoded word.
    """
    # Few processes send e-mails by themselves.
    import email_validator  # noqa: PLC0415

    address = email_validator.validate_email(raw, check_deliverability=False).ascii_email
    if address is None or "=?" in address:  # the latter is decoded where a header is written
        raise ValueError(raw)
    return address


def rate() -> Kind:
    """Accept a number of requests for a span of time."""

    def parse(raw: str) -> str:
        if not re.fullmatch(r"[1-9]\d{0,8}/(second|minute|hour|day)", raw, re.ASCII):
            raise ValueError(raw)
        return raw

    return Kind("a rate such as 30/minute (second, minute, hour or day)", parse)


def origins() -> Kind:
    """Accept a comma-separated list of web origins."""

    def parse(raw: str) -> frozenset[str]:
        return frozenset(_origin(part.strip()) for part in raw.split(",") if part.strip())

    return Kind("a comma-separated list of origins such as https://app.example.com", parse)


def _origin(raw: str) -> str:
    """Return an origin as browsers write it: in lower case, without the scheme's own port."""
    found = re.fullmatch(r"(https?)://([a-z0-9.-]+|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?", raw.lower())
    if found is None:
        raise ValueError(raw)
    scheme, host, port = found.groups()
    is_usual = port is None or int(port) == {"http": 80, "https": 443}[scheme]
    return f"{scheme}://{host}" if is_usual else f"{scheme}://{host}:{int(port)}"


def origin_of(address: str) -> str:
    """Return the origin of a page as browsers write it; empty for the empty address.

    Raises:
        ValueError: it has none.
    """
    parts = urlsplit(address)
    return _origin(f"{parts.scheme}://{parts.netloc}") if address else ""


def _lookup(values: Mapping[str, Any]) -> Callable[[str], Any]:
    def parse(raw: str) -> Any:
        try:
            return values[raw.strip().lower()]
        except KeyError as error:
            raise ValueError(raw) from error

    return parse


def _either(values: Iterable[str]) -> str:
    *others, last = values
    return " or ".join(filter(None, [", ".join(others), last]))
