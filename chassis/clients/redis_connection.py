"""Connections to Redis whose host is looked up within a deadline.

Imported with the first client: `redis` takes a third of the start-up time.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import Any

import redis
from redis.connection import Connection, SSLConnection, parse_url

from chassis.network.deadline import Deadline
from chassis.network.resolver import LookUp, Resolver, look_up

# For a client that the URL gives no time limit.
LONGEST_SECONDS = 60.0


def make_client(
    url: str, *, timeout: timedelta, look_up: LookUp = look_up, **options: Any
) -> redis.Redis:
    """Return a client that connects with its first command.

    Args:
        url: redis://, rediss:// or unix://.
        timeout: For the look-up of the host, for connecting, and for each command.
        look_up: Returns the addresses of a host.
        options: Further ones of `redis.Redis.from_url`.
    """
    seconds = timeout.total_seconds()
    given: dict[str, Any] = parse_url(url)  # type: ignore[no-untyped-call]
    kind = given.get("connection_class", Connection)
    resolving = {Connection: _Resolving, SSLConnection: _ResolvingSSL}.get(kind)
    if resolving:
        options |= {"connection_class": resolving, "resolver": Resolver(look_up)}
    return redis.Redis.from_url(
        url, socket_timeout=seconds, socket_connect_timeout=seconds, **options
    )


class _Resolving(Connection):
    """Connects to an address that was found in time."""

    def __init__(self, *, resolver: Resolver, **options: Any) -> None:
        super().__init__(**options)  # type: ignore[no-untyped-call]
        self._resolver = resolver
        self._name = self.host

    def connect_check_health(self, *arguments: Any, **options: Any) -> None:
        """Connect to the first of the host's addresses that answers, unless it is connected.

        Raises:
            redis.ConnectionError: the host has no address, or none answered.
            redis.TimeoutError: no name server answered.
        """
        if self.is_connected:
            return
        *others, last = _addresses(self._resolver, self._name, self.socket_connect_timeout)
        try:
            for self.host in others:
                with suppress(redis.ConnectionError, redis.TimeoutError):
                    super().connect_check_health(*arguments, **options)
                    return
            self.host = last
            super().connect_check_health(*arguments, **options)
        finally:
            self.host = self._name


class _ResolvingSSL(SSLConnection):
    """Connects when the look-up was in time.

    The certificate is checked by the name, so the library has to look it up once more.
    """

    def __init__(self, *, resolver: Resolver, **options: Any) -> None:
        super().__init__(**options)
        self._resolver = resolver

    def connect_check_health(self, *arguments: Any, **options: Any) -> None:
        """Connect, unless it is connected; the errors are those of `_Resolving`."""
        if not self.is_connected:
            _addresses(self._resolver, self.host, self.socket_connect_timeout)
            super().connect_check_health(*arguments, **options)


def _addresses(resolver: Resolver, host: str, seconds: float | None) -> list[str]:
    deadline = Deadline(timedelta(seconds=seconds or LONGEST_SECONDS))
    try:
        return [each[4][0] for each in resolver.addresses(host, 0, deadline)]
    except TimeoutError as error:
        msg = "the name server did not answer in time"
        raise redis.TimeoutError(msg) from error
    except (OSError, UnicodeError) as error:
        raise redis.ConnectionError(str(error)) from error
