"""gunicorn's worker: a loop that waits for clients, and threads that answer them."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from queue import SimpleQueue
from typing import Any

from gunicorn.workers.base import Worker as BaseWorker

from chassis.http import balance
from chassis.http.answer import Headers
from chassis.http.connection import Connection
from chassis.http.entrance import Entrance
from chassis.http.request import Limits
from chassis.http.unsupported import unsupported_options
from chassis.process import stacks
from chassis.process.forks import hear_signals

logger = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 0.9
# Interval of the checks for the end, once the worker stops.
END_SECONDS = 0.1
# Idle connections stay open this long after the drain: requests may be under way on them.
LAST_CALL_SECONDS = 2.0
# Clients that have begun to connect when new ones are turned away have this time for it.
HANDSHAKE_SECONDS = 0.05


def _plain_refusal(status: HTTPStatus) -> tuple[str, Headers, bytes]:
    return f"{status} {status.phrase}", [], b""


def _count_nothing(_method: str, _status: int, _seconds: float) -> None:
    pass


class Worker(BaseWorker):
    """A loop and threads. Threads get whole requests, and never wait for a client to read.

    gunicorn's configuration sets the attributes.

    Attributes:
        request_read_seconds: Longest time for a request to arrive.
        keepalive_seconds: Longest time that an idle connection stays open.
        drain_seconds: Time that a worker that was told to stop goes on as before.
        finish_seconds: Time that requests have to finish after that.
        management_port: Port for probes and scrapes alone; 0: none.
        refusal: Makes status, headers and body of the answer to bytes that are no request.
        count_refusal: Takes method, status and seconds of such an answer.
        heartbeat: Called about once a second.
        on_drain: Called when the whole service is told to stop.
        on_level: Called when the master has switched the log level (SIGUSR1).
    """

    request_read_seconds = 10.0
    keepalive_seconds = 75.0
    drain_seconds = 0.0
    finish_seconds = 20.0
    management_port = 0
    limits = Limits()
    refusal: Callable[[HTTPStatus], tuple[str, Headers, bytes]] = staticmethod(_plain_refusal)
    count_refusal: Callable[[str, int, float], None] = staticmethod(_count_nothing)

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.heartbeat: Callable[[], None] = lambda: None
        self.on_drain: Callable[[], None] = lambda: None
        self.on_level: Callable[[], None] = lambda: None
        self.loop: asyncio.AbstractEventLoop = None  # type: ignore[assignment] # before `run`
        self.connections: set[Connection] = set()
        self.seats = threading.BoundedSemaphore(max(1, self.cfg.threads // 8))
        self._tasks: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self.entrance: Entrance = None  # type: ignore[assignment] # before `run`
        self._stopping_since: float | None = None
        self._ended_at = math.inf
        self._is_drained = False
        self._beat_at = 0.0

    @property
    def is_stopping(self) -> bool:
        """Whether the worker was told to stop."""
        return self._stopping_since is not None

    @classmethod
    def check_config(cls, cfg: Any, _log: Any) -> None:
        """End the master where an option would have no effect; gunicorn calls this at the start."""
        if options := unsupported_options(cfg):
            sys.stderr.write(f"gunicorn's {', '.join(options)}: not supported by this worker\n")
            sys.exit(2)

    @classmethod
    def forget(cls, age: int) -> None:
        """Stop counting the connections of a worker that has exited."""
        balance.forget(age)

    # For connections.

    def submit(self, task: Callable[[], None]) -> None:
        """Have a thread run a task; tasks begin in the order of submission."""
        self._tasks.put(task)

    def application(self, environ: Any, start_response: Any) -> Any:
        """Call the WSGI application."""
        return self.wsgi(environ, start_response)

    def may_keep(self) -> bool:
        """Tell whether connections are kept. A draining worker sends its clients elsewhere."""
        return self._stopping_since is None

    def has_threads_to_spare(self) -> bool:
        """Tell whether a thread may wait for one connection."""
        return self._stopping_since is None and len(self.connections) < self.cfg.threads

    def count_answer(self) -> None:
        """Count an answer, which may have been this worker's last."""
        self.nr += 1
        if self.nr >= self.max_requests and not self.is_stopping:
            self._stopping_since = time.monotonic()
            self.loop.call_soon_threadsafe(self._end_drain)

    def forget_connection(self, connection: Connection) -> None:
        """Forget a connection that has closed."""
        self.connections.discard(connection)
        balance.count(self.age, len(self.connections))
        self.entrance.watch()
        if not self.connections and self._ended_at < math.inf:
            self.loop.stop()

    # The worker's life.

    def init_signals(self) -> None:
        """Set gunicorn's handlers, and hear what came while this process was forked."""
        super().init_signals()
        stacks.write_on_signal()
        hear_signals({stacks.SIGNAL})

    def run(self) -> None:
        """Serve until told to stop, then log the time that stopping took."""
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(_report)
        self._hear_signals()
        for number in range(self.cfg.threads):
            name = f"request-{number}"
            threading.Thread(target=self._do_tasks, name=name, daemon=True).start()
        self.entrance = Entrance(self, self.sockets)
        self._tick()
        if self.is_stopping:
            self._drain()
        self.loop.run_forever()
        self.log.info("Stopped: requests after %.3f s", self._stopped_for())

    def _hear_signals(self) -> None:
        for number, handle in (
            (signal.SIGTERM, self.handle_exit),
            (signal.SIGINT, self.handle_quit),
            (signal.SIGQUIT, self.handle_quit),
        ):
            self.loop.add_signal_handler(number, handle, number, None)
        self.loop.add_signal_handler(signal.SIGUSR1, self.on_level)
        self.on_level()  # a signal may have come before

    def _do_tasks(self) -> None:
        while True:
            task = self._tasks.get()
            try:
                task()
            except BaseException as error:  # noqa: BLE001 - else this thread would end
                logger.error("Thread broke", extra={"error_type": type(error).__name__})  # noqa: TRY400 - an error's text may quote what a client sent

    def _tick(self) -> None:
        """Tell gunicorn that this worker lives, and expire slow clients."""
        now = time.monotonic()
        is_ending = self._ended_at < math.inf
        self.loop.call_later(END_SECONDS if is_ending else HEARTBEAT_SECONDS, self._tick)
        for connection in [*self.connections]:
            connection.expire(now, self._ended_at + LAST_CALL_SECONDS)
        self.entrance.watch()
        is_over = now >= self._ended_at + self.finish_seconds or os.getppid() != self.ppid
        if is_over or (is_ending and not self.connections):
            self.loop.stop()
        if now - self._beat_at >= HEARTBEAT_SECONDS:
            self._beat_at = now
            self.notify()
            balance.count(self.age, len(self.connections))
            self.heartbeat()

    def handle_exit(self, sig: int, frame: Any) -> None:  # noqa: ARG002 - a signal handler's
        """Begin to stop; gunicorn repeats the signal to surplus workers."""
        if not self.is_stopping:
            self._stopping_since = time.monotonic()
            if self.loop is not None:  # else `run` begins with it
                self._drain()

    def handle_quit(self, sig: int, frame: Any) -> None:
        """End without a drain. Ctrl-C comes twice, from the terminal and from the master."""
        if self.alive:
            self._stopping_since = self._stopping_since or time.monotonic()
            super().handle_quit(sig, frame)

    def _drain(self) -> None:
        """Go on for a while, so that load balancers learn to send requests elsewhere."""
        if balance.is_stop_announced():
            self.on_drain()
        self.loop.call_later(self.drain_seconds, self._end_drain)

    def _end_drain(self) -> None:
        """Turn new clients away where all workers stop, and wait for those who are connecting."""
        if self._is_drained:
            return
        self._is_drained = True
        if balance.is_stop_announced() and self.entrance.turn_away():
            self.loop.call_later(HANDSHAKE_SECONDS, self._finish)
        else:
            self._finish()

    def _finish(self) -> None:
        """Take in the clients that have connected already, then finish the requests in flight."""
        self.entrance.close()
        self.log.info("Stopped: drain after %.3f s", self._stopped_for())
        self._ended_at = time.monotonic()
        self._tick()

    def _stopped_for(self) -> float:
        return time.monotonic() - (self._stopping_since or time.monotonic())


def _report(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log a callback's exception without its text, which may quote a client; the loop goes on."""
    logger.error("Event loop broke", extra={"error_type": type(context.get("exception")).__name__})
