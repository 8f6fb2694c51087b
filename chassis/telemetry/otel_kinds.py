"""Kinds of OTEL_* variables: their texts, as OpenTelemetry's libraries can be given them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urlsplit

from chassis.settings.kinds import Kind

# More milliseconds than this are no pause that a thread can make.
LARGEST = 2**31 - 1

_HEADER_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_HEADER_VALUE = re.compile(r"[ -~]*")


def decimal(low: float, high: float, unit: str) -> Kind:
    """Accept numbers above `low`, up to `high`, fractions included."""

    def parse(raw: str) -> str:
        value = float(raw)
        if not (math.isfinite(value) and low < value <= high):
            raise ValueError(raw)
        return raw

    return Kind(f"{unit}, more than {low:g} and at most {high:g}", parse)


def ratio() -> Kind:
    """Accept numbers from 0 to 1."""

    def parse(raw: str) -> str:
        if not 0 <= float(raw) <= 1:  # NaN is not, either
            raise ValueError(raw)
        return raw

    return Kind("a number from 0 to 1", parse)


def names(*known: str) -> Kind:
    """Accept a list of `known` names in any case, or `none` alone; others are left out."""

    def parse(raw: str) -> str:
        text = raw.lower()
        return "none" if set(_members(text)) == {"none"} else _keep(text, known.__contains__)

    return Kind(f"a comma-separated list out of {', '.join(known)}; or none", parse)


def pairs(*, are_headers: bool) -> Kind:
    """Accept a list of name=value, percent-encoded; members that are none are left out.

    Headers have ASCII names and values, and no line ends in them.
    """

    def is_pair(member: str) -> bool:
        name, equals, value = member.partition("=")
        name, value = unquote(name).strip(), unquote(value).strip()
        if not are_headers:
            return bool(equals and name)
        return bool(equals and _HEADER_NAME.fullmatch(name) and _HEADER_VALUE.fullmatch(value))

    text = ", percent-encoded ASCII" if are_headers else ", percent-encoded"
    return Kind(f"a comma-separated list of name=value{text}", partial(_keep, is_accepted=is_pair))


def patterns() -> Kind:
    """Accept a list of regular expressions; those that are none are left out."""

    def is_pattern(member: str) -> bool:
        try:
            re.compile(member)
        except re.error:
            return False
        return True

    accepts = "a comma-separated list of names, or of regular expressions"
    return Kind(accepts, partial(_keep, is_accepted=is_pattern))


def readable_file() -> Kind:
    """Accept the path of a file that this process may read."""

    def parse(raw: str) -> str:
        try:
            with Path(raw).open("rb"):
                return raw
        except OSError as error:
            raise ValueError(raw) from error

    return Kind("the path of a readable file, without which nothing is exported", parse)


def http_endpoint(*, is_base: bool) -> Kind:
    """Accept a URL; to one that is the base of all signals a path is added."""

    def parse(raw: str) -> str:
        parts = urlsplit(raw)
        is_web = parts.scheme in {"http", "https"} and bool(parts.hostname)
        has_end = bool(parts.query or parts.fragment)
        if not is_web or " " in raw or not raw.isprintable() or (is_base and has_end):
            raise ValueError(raw)
        _ = parts.port  # raises ValueError when it is no number
        return raw

    end = " and has no query" if is_base else ""
    return Kind(f"a URL that begins with http:// or https://{end}", parse)


def grpc_endpoint() -> Kind:
    """Accept what gRPC can call: a URL, or a host and a port."""

    def parse(raw: str) -> str:
        parts = urlsplit(raw if "://" in raw else f"http://{raw}")
        is_known = parts.scheme in {"http", "https"} and bool(parts.hostname)
        if " " in raw or not raw.isprintable() or not (is_known or _is_target(raw)):
            raise ValueError(raw)
        if not _is_target(raw):
            _ = parts.port  # raises ValueError when it is no number
        return raw

    return Kind("a URL that begins with http:// or https://, or host:port", parse)


def _is_target(raw: str) -> bool:
    """Tell whether gRPC resolves the name by itself."""
    return raw.startswith(("unix:", "dns:", "ipv4:", "ipv6:"))


def _members(raw: str) -> list[str]:
    return [member for each in raw.split(",") if (member := each.strip())]


class PartlyAccepted(ValueError):
    """Some members of a list are accepted; `rest` is the list of those."""

    def __init__(self, rest: str) -> None:
        super().__init__(rest)
        self.rest = rest


def _keep(raw: str, is_accepted: Callable[[str], bool]) -> str:
    """Return the accepted members of a list, each once.

    Raises:
        PartlyAccepted: others are not.
        ValueError: no member is.
    """
    given = _members(raw)
    kept = [each for each in given if is_accepted(each)]
    if not kept:
        raise ValueError(raw)
    joined = ",".join(dict.fromkeys(kept))
    if len(kept) < len(given):
        raise PartlyAccepted(joined)
    return joined
