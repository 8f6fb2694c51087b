"""A URL as the library reads it that will open it: where its parts end, and its options.

A library is imported only for a URL that has options.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping
from urllib.parse import unquote, urlsplit

REASON = "has an option that its library does not take"
SERVER = (
    "must end with the host or its port, and hold both a name and a password in ASCII or neither; "
    "write their signs as %40 for @, %2F for /"
)
SEPARATORS = "has an @ in its name or password; write it as %40"

_WHOLE = re.compile(r"(?:connect_timeout|tcp_\w+_timeout|keepalives(?:_\w+)?)")
_OF_POOL = {"connection_class", "max_connections", "timeout"}
_SSL_MODES = {"disable", "allow", "prefer", "require", "verify-ca", "verify-full"}


class Refused(ValueError):
    """A value that its kind accepts and that can never work; the text says why, without it."""


def check_separators(url: str) -> None:
    """Make sure that a library finds the host where the URL's author put it.

    Raises:
        Refused: SQLAlchemy ends a password at its first @ and takes the rest for the host, which
            would then show in log lines.
    """
    if url.startswith("postgres") and urlsplit(url).netloc.count("@") > 1:
        raise Refused(SEPARATORS)


def check_options(url: str) -> None:
    """Make sure that the options of a URL mean something.

    Raises:
        Refused: one of them would fail at the first use. The text names none: where a password
            holds a question mark, what follows looks like options.
    """
    check = _CHECKS.get(re.split(r"[:+]", url, maxsplit=1)[0])
    if check is None or "?" not in url:
        return
    try:
        check(url)
    except Exception as error:  # each library has errors of its own
        raise Refused(REASON) from error


def _check_postgresql(url: str) -> None:
    from psycopg2.extensions import make_dsn  # noqa: PLC0415 - see above
    from sqlalchemy import make_url  # noqa: PLC0415

    options = make_url(url).normalized_query
    make_dsn(**{name: ",".join(values) for name, values in options.items()})
    for name, (*_, last) in options.items():
        if _WHOLE.fullmatch(name) and not re.fullmatch(r"\d{1,9}", last, re.ASCII):
            raise Refused(REASON)
    if not {*options.get("sslmode", ())} <= _SSL_MODES:
        raise Refused(REASON)


def _check_sqlite(url: str) -> None:
    from sqlalchemy import exc, make_url  # noqa: PLC0415 - see above

    parsed = make_url(url)
    with warnings.catch_warnings():
        warnings.simplefilter("error", exc.SAWarning)  # for an option that would be ignored
        parsed.get_dialect()().create_connect_args(parsed)


def _check_redis(url: str) -> None:
    from redis import connection as library  # noqa: PLC0415 - see above

    options: Mapping[str, object] = library.parse_url(url)  # type: ignore[no-untyped-call]
    if any(isinstance(value, int | float) and value < 0 for value in options.values()):
        raise Refused(REASON)
    kinds: dict[str, Callable[..., object]] = {
        "redis": library.Connection,
        "rediss": library.SSLConnection,
        "unix": library.UnixDomainSocketConnection,
    }
    kinds[url.partition(":")[0]](**{k: v for k, v in options.items() if k not in _OF_POOL})


def check_mail_server(url: str) -> None:
    """Make sure that a URL of SMTP says all that its server needs.

    Raises:
        Refused: a sign in the password ends the host, a credential is missing, or no mechanism
            could send it. The text repeats neither.
    """
    if not url.startswith("smtp"):
        return
    parts = urlsplit(url)
    given = (parts.username or "", parts.password or "")
    credentials = [unquote(each, errors="strict") for each in given]
    is_whole = all(credentials) or not ("@" in parts.netloc or any(credentials))
    is_sendable = all(each.isascii() and each.isprintable() for each in credentials)
    if not (is_whole and is_sendable) or parts.path not in {"", "/"} or re.search("[?#]", url):
        raise Refused(SERVER)


_CHECKS: dict[str, Callable[[str], None]] = {
    "postgresql": _check_postgresql,
    "postgres": _check_postgresql,
    "sqlite": _check_sqlite,
    "redis": _check_redis,
    "rediss": _check_redis,
    "unix": _check_redis,
}
