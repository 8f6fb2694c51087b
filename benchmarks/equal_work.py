"""Before anything is timed: peers that do equal work store, log, count and trace what we do."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from http import HTTPStatus
from typing import Any
from uuid import UUID

from prometheus_client.parser import text_string_to_metric_families

from benchmarks.answers import WrongAnswer, row_problems
from benchmarks.database import Database
from benchmarks.servers import HEADERS, Server
from benchmarks.sink import Watch

READS = 9
EXPORT_SECONDS = 30.0  # spans leave in batches, every five seconds unless set otherwise
POLL_SECONDS = 0.1
MESSAGES = """
    SELECT topic FROM outbox_messages WHERE payload->>'user_id' = %(id)s AND status = 'queued'
"""


class Errand:
    """A registration and some reads of the user, in a trace that the caller has sampled."""

    def __init__(self, server: Server, collector: str) -> None:
        self.server = server
        self.trace_id = secrets.token_hex(16)
        self.watch = Watch(collector, self.trace_id)

    def run(self) -> None:
        """Send the requests, and remember where the log and the counter stood."""
        self.log_size = self.server.log.stat().st_size
        self.counted = self._count()
        self.new = {"email": f"Equal.{self.trace_id}@example.com", "name": "Ada Lovelace"}
        headers = HEADERS | {"traceparent": f"00-{self.trace_id}-{secrets.token_hex(8)}-01"}
        self.user_id = self.server.ask("POST", "/users", self.new, headers).document["id"]
        for _ in range(READS):
            self.server.ask("GET", f"/users/{self.user_id}", headers=headers)

    def problems(self) -> Iterator[str]:
        """Say which part of the work was not done; wait for what is done a little later."""
        database = self.server.database
        assert database is not None
        yield from row_problems(database, self.user_id, self.new)
        yield from message_problems(database, self.user_id)
        yield from wait(lambda: list(line_problems(self._log())))
        yield from wait(lambda: list(count_problems(self._count() - self.counted)))
        yield from wait(lambda: list(span_problems(self.watch.spans())))

    def _log(self) -> str:
        return self.server.log.read_bytes()[self.log_size :].decode(errors="replace")

    def _count(self) -> float:
        _, _, content = self.server.exchange("GET", "/metrics")
        return counted(content.decode(), self.server.subject.counter)


def check(servers: Sequence[Server], collector: str) -> None:
    """Have the servers that count requests work, and look for all that they should leave behind.

    Raises:
        WrongAnswer: naming a server and everything that it leaves out.
    """
    errands = [Errand(each, collector) for each in servers if each.subject.counter]
    with ExitStack() as watched:
        for errand in errands:
            watched.enter_context(errand.watch)
            errand.run()
        for errand in errands:
            if problems := list(errand.problems()):
                raise WrongAnswer(f"{errand.server.subject.label}: {'; '.join(problems)}")


def message_problems(database: Database, user_id: str) -> Iterator[str]:
    """Say when the registration has not left its message in the outbox."""
    topics = [topic for (topic,) in database.rows(MESSAGES, {"id": str(UUID(user_id))})]
    if topics != ["user.registered"]:
        yield f"the outbox has the messages {topics}"


def line_problems(log: str) -> Iterator[str]:
    """Say when a request of an errand has no access line, as a JSON object with fields."""
    lines = [(each["method"], int(each["status"])) for each in _objects(log) if "method" in each]
    for line, number in ((("POST", HTTPStatus.CREATED), 1), (("GET", HTTPStatus.OK), READS)):
        if lines.count(line) < number:
            yield f"{lines.count(line)} of {number} lines say {line[0]} {int(line[1])}"


def count_problems(grown: float) -> Iterator[str]:
    """Say when the metrics count fewer requests than were sent."""
    if grown < READS + 1:
        yield f"/metrics counts {grown:.0f} of {READS + 1} requests"


def span_problems(spans: Mapping[str, int]) -> Iterator[str]:
    """Say when a request, all of which are sampled, has no span, or its statement has none."""
    for kind in ("server", "statement"):
        found = spans.get(kind, 0)
        if found < READS + 1:
            yield f"the collector has {found} {kind} spans of {READS + 1} requests"


def counted(metrics: str, name: str) -> float:
    """Return the total of a counter over all of its labels, in Prometheus' text format."""
    return sum(
        sample.value
        for family in text_string_to_metric_families(metrics)
        for sample in family.samples
        if sample.name == name
    )


def wait(problems: Callable[[], list[str]]) -> list[str]:
    """Return the problems that are left when there are none, or time is over."""
    deadline = time.monotonic() + EXPORT_SECONDS
    while (left := problems()) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    return left


def _objects(log: str) -> Iterator[dict[str, Any]]:
    for line in log.splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            continue
