"""The Redis client, opened on first use. Every caller can go on without Redis."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from chassis.errors import Unavailable
from chassis.once import once_property
from chassis.telemetry.instrumentation import trace_redis

if TYPE_CHECKING:
    import redis


class RedisManager:
    """A connection pool to one Redis server, or to none when `url` is empty."""

    def __init__(self, url: str, *, max_connections: int, timeout: timedelta) -> None:
        self._url = url
        self._max_connections = max_connections
        self._timeout = timeout

    @property
    def is_configured(self) -> bool:
        """Whether a server is configured."""
        return bool(self._url)

    @once_property
    def client(self) -> redis.Redis:
        """The client; it connects with its first command."""
        # A third of the start-up time, and optional.
        from chassis.clients.redis_connection import make_client  # noqa: PLC0415

        client = make_client(
            self._url,
            timeout=self._timeout,
            max_connections=self._max_connections,
            decode_responses=True,
        )
        trace_redis(client)
        return client

    def ping(self) -> None:
        """Make one round trip.

        Raises:
            Unavailable: there was no answer in time.
        """
        import redis  # noqa: PLC0415 - see `client`

        try:
            self.client.ping()
        except (redis.RedisError, OSError) as error:
            raise Unavailable from error

    def close(self) -> None:
        """Close the client if it was opened."""
        if "client" in self.__dict__:
            self.client.close()
