"""A service under load, and everything that can be broken about it."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
from sqlalchemy import text

from chassis.storage import migrations
from chassis.storage.database import DatabaseManager
from tests.support.chaos.disk import open_disk
from tests.support.chaos.fault import Spell
from tests.support.chaos.hosts import Hosts, Number
from tests.support.chaos.imports import Imports
from tests.support.deployment import Deployment, Process, Web, Worker
from tests.support.faults import FaultProxy
from tests.support.load import Load
from tests.support.operating import operating
from tests.support.provider import MailProvider
from tests.support.servers import PostgreSQLServer, ValkeyServer
from tests.support.waiting import eventually

SERVICE = "service"
TABLES_OF_SERVICE = "ALL TABLES IN SCHEMA public"
# Clients that were sent elsewhere may have had the old address in hand.
GRACE_SECONDS = 1.0


class Chaos:
    """A service under load, and what may happen to it."""

    def __init__(self, folder: Path, running: ExitStack, random_source: random.Random) -> None:
        self.random = random_source
        self.problems: list[str] = []
        self.silences: list[Spell] = []
        self.imports = Imports()
        self.hosts = Hosts(folder)
        self.disk = running.enter_context(open_disk(folder / "disk"))
        self.database = running.enter_context(PostgreSQLServer(durable=True))
        self.redis = running.enter_context(ValkeyServer())
        self.proxy = FaultProxy(self.database.port)
        running.callback(self.proxy.close)
        self.provider = MailProvider()
        running.callback(self.provider.close)
        migrate(self.database.url)
        self._deployment = running.enter_context(self._deploy())
        self.clocks: dict[Process, Number] = {}
        self.every_worker: list[Worker] = []
        self.web = self.start_web()
        self.workers = [self.start_worker() for _ in range(2)]
        self.load = Load(self.web.url, clients=6)

    def start_web(self) -> Web:
        """Start a web process and wait until it can serve."""
        clock, variables = self.hosts.add()
        web = self._deployment.web(
            REDIS_URL=self.hosts.named("redis", self.redis.url),
            RATE_LIMIT_ENABLED="true",
            RATE_LIMIT_REGISTRATION="1000000/minute",
            DRAIN_SECONDS="1",
            WEB_CONCURRENCY="2",
            TMPDIR=str(self.disk.folder),
            **variables,
        )
        self.clocks[web] = clock
        web.await_ready()
        return web

    def start_worker(self) -> Worker:
        """Start a worker."""
        clock, variables = self.hosts.add()
        # Longer than a machine that does all of this at once may stand still.
        worker = self._deployment.worker(
            OUTBOX_LEASE_SECONDS="5", TMPDIR=str(self.disk.folder), **variables
        )
        self.clocks[worker] = clock
        self.every_worker.append(worker)
        worker.await_ready()
        return worker

    def send_clients_to(self, web: Web) -> None:
        """Let another web process be the service."""
        self.web, self.load.url = web, web.url

    @contextmanager
    def clients_may_hear_nothing(self) -> Iterator[None]:
        """Note a time in which requests may end without an answer."""
        began = time.time()
        yield
        self.silences.append(Spell(began, time.time() + GRACE_SECONDS))

    def check(self, is_kept: bool, promise: str) -> None:  # noqa: FBT001 - reads as a sentence
        """Note a promise that was broken."""
        if not is_kept:
            say(f"BROKEN  {promise}")
            self.problems.append(promise)

    def _deploy(self) -> Deployment:
        url = self.database.url.replace("app@", f"{SERVICE}@")
        url = url.replace(f":{self.database.port}/", f":{self.proxy.port}/")
        return Deployment(
            self.disk.folder,
            self.hosts.named("database", url),
            self.hosts.named("mail", self.provider.url),
        )


def say(line: str) -> None:
    """Print a line with the time at once."""
    sys.stdout.write(f"{time.strftime('%H:%M:%S')} {line}\n")
    sys.stdout.flush()


def migrate(url: str) -> None:
    """Bring the database up to date, and make the role of the service, which owns nothing."""
    database = DatabaseManager(url).initialize()
    migrations.upgrade(database)
    database.close()
    with operating(url) as operator:
        operator.execute(text(f"CREATE ROLE {SERVICE} LOGIN"))
        operator.execute(text(f"GRANT ALL ON {TABLES_OF_SERVICE} TO {SERVICE}"))


def send(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process that may be gone."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        say(f"gone    process {pid}")


def are_gone(pids: Iterable[int], seconds: float = 20.0) -> bool:
    """Tell whether processes end within this time; one that nobody waited for counts as ended."""
    try:
        eventually(lambda: not any(_runs(pid) for pid in pids), seconds)
    except AssertionError:
        return False
    return True


def _runs(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
