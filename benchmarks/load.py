"""The load generator: one process, raw sockets, epoll.

Run as a program it reads a plan as JSON, carries it out and prints the outcome as JSON. It
is a process of its own so that its cost is known and its pauses are not those of others.

Closed loop (no rate): each connection sends its next request when the answer is there, which
finds the saturation. Open loop (a rate): requests fall due at fixed times whatever the
server does, and latency counts from then, so that a server that stalls cannot hide the
requests that would have met the stall.
"""

from __future__ import annotations

import gc
import json
import select
import socket
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import count, cycle
from typing import Any

from benchmarks import processes

HOST = "127.0.0.1"
PERCENTILES = (50.0, 99.0, 99.9)
STALL_SECONDS = 20.0
RECEIVE_BYTES = 256 * 1024


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The requests to send.

    Either `paths` are read in turn, or users are created whose addresses begin with
    `registering`, each new.
    """

    port: int
    connections: int
    seconds: float
    expected_status: int
    paths: list[str] = field(default_factory=list)
    registering: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    rate: float | None = None  # requests a second; None: as many as are answered
    watched: dict[str, int] = field(default_factory=dict)  # name -> process whose CPU is read


@dataclass(kw_only=True)
class Outcome:
    """The answers that came back."""

    requests: int
    seconds: float
    other_statuses: dict[str, int]
    latency_ms: dict[str, float]
    client_cpu_seconds: float
    cpu_seconds: dict[str, float]  # name -> that of the watched process and its descendants
    busiest_share: dict[str, float]  # name -> part of it that its busiest process took


class ServerStalled(Exception):
    """The server did not answer for a long time."""


@dataclass(slots=True)
class Connection:
    """One keep-alive connection with at most one request on its way."""

    port: int
    socket: socket.socket = field(init=False)
    received: bytes = b""
    due: float = 0.0

    def __post_init__(self) -> None:
        self.open()

    def open(self) -> None:
        """Connect."""
        self.socket = socket.create_connection((HOST, self.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.received = b""

    def answer(self) -> tuple[int, bool] | None:
        """Return status and whether the server closes; None while the answer is not complete."""
        self.received += self.socket.recv(RECEIVE_BYTES)
        end = self.received.find(b"\r\n\r\n")
        if end < 0:
            if not self.received:
                raise ConnectionResetError("closed without an answer")
            return None
        head = self.received[:end].lower()
        _, found, rest = head.partition(b"\r\ncontent-length:")
        length = int(rest.partition(b"\r\n")[0]) if found else 0
        if len(self.received) < end + 4 + length:
            return None
        self.received = b""
        return int(head[9:12]), b"\r\nconnection: close" in head


class Generator:
    """Carries out one plan."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._requests = _requests(plan)
        self._latencies: list[float] = []
        self._statuses: Counter[int] = Counter()
        self._epoll = select.epoll()
        self._connections: dict[int, Connection] = {}
        for _ in range(plan.connections):
            self._register(Connection(plan.port))

    def run(self) -> Outcome:
        """Send everything, wait for all answers, hang up."""
        before = {name: processes.cpu_seconds(pid) for name, pid in self._plan.watched.items()}
        cpu, start = time.process_time(), time.perf_counter()
        (self._run_closed if self._plan.rate is None else self._run_open)(start)
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        used = {
            name: _used(before[name], processes.cpu_seconds(pid))
            for name, pid in self._plan.watched.items()
        }
        for connection in self._connections.values():
            connection.socket.close()
        self._epoll.close()
        return Outcome(
            requests=self._statuses.pop(self._plan.expected_status, 0),
            seconds=seconds,
            other_statuses={str(status): times for status, times in self._statuses.items()},
            latency_ms=percentiles_ms(self._latencies),
            client_cpu_seconds=cpu,
            cpu_seconds={name: sum(times) for name, times in used.items()},
            busiest_share={name: max(times) / (sum(times) or 1) for name, times in used.items()},
        )

    def _run_closed(self, start: float) -> None:
        end = start + self._plan.seconds
        for connection in self._connections.values():
            self._send(connection, time.perf_counter())
        waiting = len(self._connections)
        while waiting:
            for connection in self._answered(STALL_SECONDS):
                now = time.perf_counter()
                if now < end:
                    self._send(connection, now)
                else:
                    waiting -= 1

    def _run_open(self, start: float) -> None:
        assert self._plan.rate is not None
        interval, total = 1 / self._plan.rate, round(self._plan.rate * self._plan.seconds)
        # In turn: a server hangs up on a connection that says nothing for long.
        idle, due = deque(self._connections.values()), deque[float]()
        fallen_due = 0
        while len(idle) < len(self._connections) or due or fallen_due < total:
            now = time.perf_counter()
            while fallen_due < total and start + fallen_due * interval <= now:
                due.append(start + fallen_due * interval)
                fallen_due += 1
            while due and idle:
                self._send(idle.popleft(), due.popleft())
            is_last = fallen_due == total
            pause = STALL_SECONDS if is_last else start + fallen_due * interval - now
            idle += self._answered(max(0.0, pause), may_be_none=not is_last)

    def _send(self, connection: Connection, due: float) -> None:
        connection.due = due
        connection.socket.sendall(next(self._requests))

    def _answered(self, timeout: float, *, may_be_none: bool = False) -> Iterator[Connection]:
        # epoll counts in milliseconds, select in microseconds.
        select.select([self._epoll], [], [], timeout)
        events = self._epoll.poll(0)
        if not events and not may_be_none:
            raise ServerStalled(f"no answer for {timeout:.0f} seconds")
        for number, _ in events:
            connection = self._connections[number]
            answer = connection.answer()
            if answer is not None:
                status, is_closing = answer
                self._latencies.append(time.perf_counter() - connection.due)
                self._statuses[status] += 1
                if is_closing:
                    self._reconnect(connection)
                yield connection

    def _reconnect(self, connection: Connection) -> None:
        del self._connections[connection.socket.fileno()]
        connection.socket.close()  # leaves epoll by itself
        connection.open()
        self._register(connection)

    def _register(self, connection: Connection) -> None:
        self._connections[connection.socket.fileno()] = connection
        self._epoll.register(connection.socket, select.EPOLLIN)


def percentiles_ms(latencies: list[float]) -> dict[str, float]:
    """Return percentile -> milliseconds, and the largest, of latencies in seconds."""
    if not latencies:
        return {}
    ordered = sorted(latencies)
    last = len(ordered) - 1
    names = {f"p{each:g}": ordered[round(each / 100 * last)] for each in PERCENTILES}
    return {name: value * 1000 for name, value in (names | {"max": ordered[-1]}).items()}


def _requests(plan: Plan) -> Iterator[bytes]:
    given = "".join(f"{name}: {value}\r\n" for name, value in plan.headers.items())
    headers = f"Host: {HOST}:{plan.port}\r\n{given}"
    if plan.paths:
        yield from cycle([f"GET {path} HTTP/1.1\r\n{headers}\r\n".encode() for path in plan.paths])
    for number in count():
        body = f'{{"email":"{plan.registering}{number:08}@example.com","name":"Ada Lovelace"}}'
        kind = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        yield f"POST /users HTTP/1.1\r\n{headers}{kind}{body}".encode()


def _used(before: dict[int, float], after: dict[int, float]) -> list[float]:
    # A child that ended has left its time with its parent.
    return [seconds - before.get(pid, 0.0) for pid, seconds in after.items()]


def main() -> None:
    """Carry out the plan on standard input."""
    given: dict[str, Any] = json.load(sys.stdin)
    generator = Generator(Plan(**given))
    gc.freeze()
    gc.disable()
    json.dump(asdict(generator.run()), sys.stdout)


if __name__ == "__main__":
    main()
