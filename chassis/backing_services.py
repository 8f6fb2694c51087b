"""The attached resources of one process, opened and closed together."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from chassis.clients.http_client import HttpClient
from chassis.clients.mailer import Mailer
from chassis.clients.redis import RedisManager
from chassis.links import Links
from chassis.security import PasswordHasher
from chassis.storage.database import DatabaseManager
from chassis.tasks import TaskRunner


@dataclass(frozen=True, slots=True, kw_only=True)
class BackingServices:
    """The attached resources of a process. Each connects on its first use.

    Attributes:
        external: Calls that ask other services for a sign of life, or raise Unavailable.
    """

    database: DatabaseManager
    redis: RedisManager
    http: HttpClient
    mailer: Mailer
    tasks: TaskRunner
    hasher: PasswordHasher
    links: Links
    external: tuple[Callable[[], None], ...]

    def pings(self) -> dict[str, Callable[[], None]]:
        """Return name -> a call that makes a round trip, or raises Unavailable.

        Resources that are not configured are left out.
        """
        pings: dict[str, Callable[[], None]] = {"database": self.database.ping}
        if self.redis.is_configured:
            pings["redis"] = self.redis.ping
        if self.external:
            pings["external_apis"] = self._ping_external
        return pings

    def close(self) -> None:
        """Close all resources that were opened, also when one of them fails."""
        with ExitStack() as stack:  # the last one first
            for each in (self.database, self.redis, self.http, self.mailer):
                stack.callback(each.close)

    def _ping_external(self) -> None:
        for ping in self.external:
            ping()
