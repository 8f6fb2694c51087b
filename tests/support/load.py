"""Clients that register users without a pause, and what must be true of what they were told."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from secrets import token_hex
from typing import NamedTuple, Self

import httpx2
from sqlalchemy import create_engine, text

from chassis.storage.database import with_driver
from tests.support.loopback import NO_TLS
from tests.support.provider import Mail
from tests.support.waiting import DEADLINE_SECONDS, eventually

THINKING_SECONDS = 0.02


class Attempt(NamedTuple):
    """A request to register a user and its outcome; without an answer `status` is 0."""

    email: str
    sent_at: float
    seconds: float
    status: int
    retry_after: str | None
    error: str


class Load:
    """Clients in threads; the odd ones keep their connection, the even ones open new ones.

    Args:
        url: Of the service; may be changed while the clients run.
        clients: How many there are.
    """

    def __init__(self, url: str, *, clients: int = 4) -> None:
        self.url = url
        self.attempts: list[Attempt] = []
        self.tag = token_hex(4)
        self._numbers = itertools.count()
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(number % 2 == 1,)) for number in range(clients)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Wait until every client has the answer it waits for, and send no more."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def count(self, status: int) -> int:
        """Return how many requests ended like this so far."""
        return sum(attempt.status == status for attempt in list(self.attempts))

    @property
    def statuses(self) -> Counter[int]:
        """Status -> number of requests so far."""
        return Counter(attempt.status for attempt in list(self.attempts))

    @property
    def acknowledged(self) -> set[str]:
        """The addresses whose registration was confirmed."""
        return {attempt.email for attempt in list(self.attempts) if attempt.status == 201}

    @property
    def unanswered(self) -> list[Attempt]:
        """The requests that got no answer."""
        return [attempt for attempt in list(self.attempts) if attempt.status == 0]

    def _run(self, keeps_connection: bool) -> None:  # noqa: FBT001 - a thread's only argument
        limits = httpx2.Limits(max_keepalive_connections=int(keeps_connection))
        with httpx2.Client(timeout=DEADLINE_SECONDS, limits=limits, verify=NO_TLS) as client:
            while not self._stopping.is_set():
                self.attempts.append(self._register(client))
                self._stopping.wait(THINKING_SECONDS)

    def _register(self, client: httpx2.Client) -> Attempt:
        email = f"{self.tag}-{next(self._numbers)}@example.com"
        document = {"email": email, "name": "Load"}
        sent_at: list[float] = []

        def trace(event: str, _details: object) -> None:
            if event == "http11.send_request_body.complete":
                sent_at.append(time.time())

        begin = time.monotonic()
        status, retry_after, error = 0, None, ""
        try:
            response = client.post(f"{self.url}/users", json=document, extensions={"trace": trace})
            status, retry_after = response.status_code, response.headers.get("Retry-After")
        except httpx2.TransportError as failure:
            error = f"{type(failure).__name__}: {failure}"
        # A request that could not be sent counts from the moment at which that was known.
        moment = sent_at[0] if sent_at else time.time()
        return Attempt(email, moment, time.monotonic() - begin, status, retry_after, error)


@dataclass(frozen=True, slots=True)
class Stored:
    """The rows that a load left in the database."""

    emails: Counter[str]
    messages: Counter[str]

    @classmethod
    def read(cls, database_url: str, pattern: str = "%") -> Self:
        """Count the users whose address is like a pattern, and the messages of each, by address."""
        statement = """
            SELECT u.email, count(DISTINCT u.id), count(m.id) FROM users u
            LEFT JOIN outbox_messages m ON m.payload ->> 'user_id' = u.id::text
            WHERE u.email LIKE :pattern GROUP BY u.email
        """
        engine = create_engine(with_driver(database_url))
        with engine.connect() as connection:
            rows = connection.execute(text(statement), {"pattern": pattern}).all()
        engine.dispose()
        return cls(
            Counter({email: users for email, users, _ in rows}),
            Counter({email: messages for email, _, messages in rows}),
        )


def missing_mails(stored: Stored, taken: Iterable[Mail]) -> set[str]:
    """Return the stored users whose e-mail the provider has not taken yet."""
    return set(stored.emails) - {mail.to for mail in taken}


def violations(load: Load, stored: Stored, mails: Sequence[Mail]) -> list[str]:
    """Say which promises were broken; nothing when all were kept."""
    return [*_lost_users(load, stored), *_wrong_mails(stored, mails)]


def _lost_users(load: Load, stored: Stored) -> Iterator[str]:
    for email in load.acknowledged | set(stored.emails):
        if stored.emails[email] != 1:
            yield f"{email} is there {stored.emails[email]} times"
        if stored.messages[email] != 1:
            yield f"{email} has {stored.messages[email]} messages"


def _wrong_mails(stored: Stored, mails: Sequence[Mail]) -> Iterator[str]:
    keys: dict[str, set[str]] = {}
    for mail in mails:
        keys.setdefault(mail.to, set()).add(mail.key)
    for email, used in keys.items():
        if len(used) != 1 or "" in used:
            yield f"the e-mail to {email} was tried with the keys {sorted(used)}"
        if email not in stored.emails:
            yield f"an e-mail was sent to {email}, who is not there"
    for email in missing_mails(stored, [mail for mail in mails if mail.was_taken]):
        yield f"{email} got no e-mail"


@contextmanager
def registering(url: str, *, clients: int = 4) -> Iterator[Load]:
    """Let clients register users, from the first answer to the end of the block."""
    with Load(url, clients=clients) as load:
        eventually(lambda: load.count(201))
        yield load
