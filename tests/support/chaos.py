"""Faults in a seeded random order under load, and what must be true at the end: make chaos.

Two faults may overlap. The exit status is 1 when a promise was broken.
"""

from __future__ import annotations

import argparse
import os
import random
import secrets
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from sqlalchemy import create_engine, text

from chassis.storage import migrations
from chassis.storage.database import DatabaseManager, with_driver
from tests.support.deployment import Deployment, Web, Worker
from tests.support.faults import GARBAGE, HANG, FaultProxy, MailProvider, Mode
from tests.support.load import Load, Stored, missing_mails, violations
from tests.support.servers import PostgreSQLServer, ValkeyServer
from tests.support.waiting import eventually

RECOVERY_SECONDS = 20.0
# Timeouts of 1 and 2 s, one after the other, on a machine that does all of this at once.
ANSWER_SECONDS = 15.0

Fault = Callable[["Chaos"], AbstractContextManager[None]]


class Chaos:
    """A service under load, and what may happen to it."""

    def __init__(self, folder: Path, running: ExitStack, random_source: random.Random) -> None:
        self.random = random_source
        self.problems: list[str] = []
        self.database = running.enter_context(PostgreSQLServer(durable=True))
        self.redis = running.enter_context(ValkeyServer())
        self.proxy = FaultProxy(self.database.port)
        running.callback(self.proxy.close)
        self.provider = MailProvider()
        running.callback(self.provider.close)
        migrate(self.database.url)
        url = self.database.url.replace(f":{self.database.port}/", f":{self.proxy.port}/")
        self._deployment = running.enter_context(Deployment(folder, url, self.provider.url))
        self.web = self.start_web()
        self.workers = [self.start_worker() for _ in range(2)]
        self.load = Load(self.web.url, clients=6)

    def start_web(self) -> Web:
        """Start a web process and wait until it can serve."""
        web = self._deployment.web(
            REDIS_URL=self.redis.url,
            RATE_LIMIT_ENABLED="true",
            RATE_LIMIT_REGISTRATION="1000000/minute",
            DRAIN_SECONDS="1",
        )
        web.await_ready()
        return web

    def start_worker(self) -> Worker:
        """Start a worker."""
        worker = self._deployment.worker()
        worker.await_ready()
        return worker

    def check(self, is_kept: bool, promise: str) -> None:  # noqa: FBT001 - reads as a sentence
        """Note a promise that was broken."""
        if not is_kept:
            say(f"BROKEN  {promise}")
            self.problems.append(promise)


def say(line: str) -> None:
    """Print a line with the time at once."""
    sys.stdout.write(f"{time.strftime('%H:%M:%S')} {line}\n")
    sys.stdout.flush()


def migrate(url: str) -> None:
    """Bring the database up to date."""
    database = DatabaseManager(url).initialize()
    migrations.upgrade(database)
    database.close()


@contextmanager
def postgresql_crashes(chaos: Chaos) -> Iterator[None]:
    """End PostgreSQL as a crash would."""
    chaos.database.stop(immediate=True)
    yield
    chaos.database.start()


@contextmanager
def postgresql_restarts(chaos: Chaos) -> Iterator[None]:
    """Restart PostgreSQL in good order."""
    chaos.database.restart()
    yield


@contextmanager
def backends_freeze(chaos: Chaos) -> Iterator[None]:
    """Freeze the server's processes that work for the service, whatever they do."""
    engine = create_engine(with_driver(chaos.database.url))
    query = "SELECT pid FROM pg_stat_activity WHERE application_name <> '' AND backend_type = :type"
    with engine.connect() as connection:
        pids = connection.scalars(text(query), {"type": "client backend"}).all()
    engine.dispose()
    for pid in pids:
        send(pid, signal.SIGSTOP)
    yield
    for pid in pids:
        send(pid, signal.SIGCONT)


def through(mode: Mode) -> Fault:
    """Return a fault of the way to the database."""

    @contextmanager
    def fault(chaos: Chaos) -> Iterator[None]:
        with chaos.proxy.behaving(mode):
            yield

    return fault


def provider_answers(answer: int | str, delay_seconds: float = 0.0) -> Fault:
    """Return a fault of the e-mail provider."""

    @contextmanager
    def fault(chaos: Chaos) -> Iterator[None]:
        chaos.provider.answer, chaos.provider.delay_seconds = answer, delay_seconds
        yield
        chaos.provider.answer, chaos.provider.delay_seconds = 200, 0.0

    return fault


@contextmanager
def redis_freezes(chaos: Chaos) -> Iterator[None]:
    """Freeze Redis."""
    send(chaos.redis.pid, signal.SIGSTOP)
    yield
    send(chaos.redis.pid, signal.SIGCONT)


@contextmanager
def redis_crashes(chaos: Chaos) -> Iterator[None]:
    """End Redis as a crash would."""
    chaos.redis.stop(immediate=True)
    yield
    chaos.redis.start()


@contextmanager
def worker_is_killed(chaos: Chaos) -> Iterator[None]:
    """Kill a worker; another one comes."""
    chaos.workers.pop(chaos.random.randrange(len(chaos.workers))).kill()
    yield
    chaos.workers.append(chaos.start_worker())


@contextmanager
def worker_is_stopped(chaos: Chaos) -> Iterator[None]:
    """Stop a worker; another one comes."""
    status, seconds = chaos.workers.pop(chaos.random.randrange(len(chaos.workers))).stop()
    chaos.check(status == 0 and seconds < 15, f"a worker stops: status {status}, {seconds:.1f} s")
    yield
    chaos.workers.append(chaos.start_worker())


@contextmanager
def web_is_replaced(chaos: Chaos) -> Iterator[None]:
    """Start a new web process, send the clients there, and stop the old one under load."""
    old, new = chaos.web, chaos.start_web()
    old.send(signal.SIGTERM)
    # Clients hear of it a moment later, while the old one drains.
    time.sleep(0.3)
    chaos.web, chaos.load.url = new, new.url
    yield
    status = old.wait()
    chaos.check(status == 0, f"a web process stops: status {status}")


FAULTS: dict[str, Fault] = {
    "PostgreSQL crashes": postgresql_crashes,
    "PostgreSQL restarts": postgresql_restarts,
    "PostgreSQL's processes freeze": backends_freeze,
    "the database's network swallows everything": through(Mode.BLACKHOLE),
    "the database's network resets connections": through(Mode.RESET),
    "the database's network is slow": through(Mode.LATENCY),
    "Redis freezes": redis_freezes,
    "Redis crashes": redis_crashes,
    "the provider answers 503": provider_answers(503),
    "the provider hangs": provider_answers(HANG),
    "the provider answers garbage": provider_answers(GARBAGE),
    "the provider is slow": provider_answers(202, 0.5),
    "a worker is killed": worker_is_killed,
    "a worker is stopped": worker_is_stopped,
    "the web process is replaced": web_is_replaced,
}
# Of these, one at a time: the second could not begin, or would undo the first.
DATABASE = frozenset(list(FAULTS)[:6])
REPLACED = frozenset({"the web process is replaced"})
GROUPS = (DATABASE | REPLACED, frozenset(list(FAULTS)[6:8]), frozenset(list(FAULTS)[8:12]))


def choose(source: random.Random) -> list[str]:
    """Choose one fault, or two that can happen together."""
    names = source.sample(list(FAULTS), source.choice([1, 1, 2]))
    both = set(names)
    return names[:1] if any(len(both & group) > 1 for group in GROUPS) else names


def happen(chaos: Chaos, names: list[str], seconds: float) -> None:
    """Let faults happen for a while, under the eyes of a probe, and wait for the recovery."""
    before = len(chaos.load.attempts)
    say(f"fault   {' and '.join(names)}, {seconds:.1f} s")
    with ExitStack() as faults:
        for name in names:
            faults.enter_context(FAULTS[name](chaos))
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            chaos.check(chaos.web.get("/health") == 200, "/health answers 200")
            time.sleep(0.2)
    served = chaos.load.count(201)
    try:
        recovers_from = time.monotonic()
        eventually(
            lambda: chaos.load.count(201) > served + 5 and chaos.web.get("/ready") == 200,
            RECOVERY_SECONDS,
        )
    except AssertionError:
        chaos.check(False, f"users are registered again {RECOVERY_SECONDS:.0f} s after it")  # noqa: FBT003
        return
    took = time.monotonic() - recovers_from
    ended = [attempt.status for attempt in chaos.load.attempts[before:]]
    counts = ", ".join(f"{ended.count(status)} times {status}" for status in sorted(set(ended)))
    say(f"served  again after {took:.1f} s; answers meanwhile: {counts}")


def conclude(chaos: Chaos) -> None:
    """Wait for the last e-mails, then compare what was said with what is there."""
    chaos.load.stop()
    url = chaos.database.url
    try:
        eventually(lambda: not missing_mails(Stored.read(url), chaos.provider.taken), 90)
    except AssertionError:
        say("waited  90 s for the last e-mails in vain")
    stored = Stored.read(url)
    for problem in violations(chaos.load, stored, chaos.provider.attempts):
        chaos.check(False, problem)  # noqa: FBT003
    for attempt in chaos.load.unanswered:
        chaos.check(False, f"every request is answered: {attempt}")  # noqa: FBT003
    strange = set(chaos.load.statuses) - {0, 201, 503}
    chaos.check(not strange, f"answers are 201 or 503, not {strange}")
    slowest = max(attempt.seconds for attempt in chaos.load.attempts)
    chaos.check(slowest < ANSWER_SECONDS, f"answers come in time: {slowest:.1f} s")
    chaos.check(all(each.is_alive for each in chaos.workers), "workers live")
    keys = {mail.key for mail in chaos.provider.taken}
    say(
        f"checked {len(chaos.load.attempts)} requests: {dict(chaos.load.statuses)},"
        f" the slowest {slowest:.1f} s; {len(chaos.load.acknowledged)} users acknowledged,"
        f" {len(stored.emails)} stored; {len(chaos.provider.attempts)} tries of"
        f" {len(keys)} e-mails, {len(chaos.provider.taken) - len(keys)} taken more than once"
    )


def main() -> int:
    """Run for a while; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6))
    options = parser.parse_args()
    say(f"seed    {options.seed}, {options.seconds:.0f} s")
    with tempfile.TemporaryDirectory() as folder, ExitStack() as running:
        source = random.Random(options.seed)  # noqa: S311 - it is to be repeatable
        chaos = Chaos(Path(folder), running, source)
        number, until = 0, time.monotonic() + options.seconds
        with chaos.load:
            while time.monotonic() < until and not chaos.problems:
                happen(chaos, choose(source), source.uniform(0.5, 4))
                number += 1
            conclude(chaos)
        if chaos.problems:
            sys.stdout.write(chaos.web.output[-4000:])
    say(f"result  {number} faults, {len(chaos.problems)} promises broken, seed {options.seed}")
    return 1 if chaos.problems else 0


def send(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process that may be gone."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        say(f"gone    process {pid}")


if __name__ == "__main__":
    sys.exit(main())
