"""Dispatch: a message is worked on by this process, or by any that takes it from Redis.

The row in the database decides. The queue carries ids only, and may lose them: a message
whose claim ends without a settlement is due again, and is sent again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

from chassis.background.outbox import Message
from chassis.errors import Unavailable
from chassis.telemetry.outages import Outage

if TYPE_CHECKING:
    import dramatiq
    import redis

logger = logging.getLogger(__name__)

QUEUE = "outbox"
TIMEOUT = timedelta(seconds=2)
# Messages that may wait for each thread.
MAX_AHEAD = 4
# After the queue did not answer, it is left alone for this time.
OUTAGE_SECONDS = 5.0

Work = Callable[[Message], None]
# Returns a message while the claim with this number of attempts holds.
Load = Callable[[UUID, int], Message | None]


class Dispatcher(Protocol):
    """Has claimed messages worked on."""

    def start(self, work: Work, load: Load) -> None:
        """Start: `work` delivers a message, `load` returns one that another process claimed."""

    def room(self, in_works: int) -> int:
        """Return how many more messages to claim, while this process works on `in_works`."""

    def works_here(self) -> bool:
        """Tell whether messages that are submitted now are worked on by this process."""

    def submit(self, message: Message) -> bool:
        """Have a message worked on; tell whether this process does it."""

    def stop(self) -> None:
        """Start no more work."""


class LocalDispatcher:
    """Works on messages in threads of this process."""

    def __init__(self, concurrency: int) -> None:
        self._concurrency = concurrency
        self._threads = ThreadPoolExecutor(concurrency, thread_name_prefix="delivery")
        self._work: Work | None = None
        self._submitted = self._finished = 0

    def start(self, work: Work, _load: Load) -> None:
        """Remember the function that delivers a message."""
        self._work = work

    def room(self, in_works: int) -> int:
        """Return the number of free threads plus the messages finished since the last call.

        So threads have work during the next claim, and slow work makes no message wait here.
        """
        finished = max(self._finished, self._submitted - in_works)
        pace, self._finished = finished - self._finished, finished
        return self._concurrency + min(pace, self._concurrency * MAX_AHEAD) - in_works

    def works_here(self) -> bool:
        """Tell that they are."""
        return True

    def submit(self, message: Message) -> bool:
        """Work on a message in one of the threads."""
        assert self._work is not None  # noqa: S101 - started before
        self._submitted += 1
        self._threads.submit(self._work, message)
        return True

    def stop(self) -> None:
        """Take no more messages; those that were taken are worked on."""
        self._threads.shutdown(wait=False)


class DramatiqDispatcher:
    """Sends ids through Redis to whichever worker process is free, this one included.

    Without Redis a process works on the messages that it claims, as LocalDispatcher does.
    """

    def __init__(self, url: str, concurrency: int) -> None:
        self._url = url
        self._concurrency = concurrency
        self._local = LocalDispatcher(concurrency)
        self._actor: Any = None
        self._worker: dramatiq.Worker | None = None
        self._redis: redis.Redis | None = None
        self._left_alone_until = 0.0
        self._outage = Outage(
            logger,
            away="The queue is away; each worker works on what it claims",
            back="The queue is back",
        )

    def start(self, work: Work, load: Load) -> None:
        """Begin to take ids from the queue."""
        import dramatiq  # noqa: PLC0415 - only where it is chosen
        from dramatiq.brokers.redis import RedisBroker  # noqa: PLC0415

        from chassis.clients.redis_connection import make_client  # noqa: PLC0415

        self._local.start(work, load)

        def deliver(message_id: str, attempts: int) -> None:
            with suppress(Unavailable):  # the claim ends, and the message is due again
                message = load(UUID(message_id), attempts)
                if message is not None:  # else it was settled or claimed again meanwhile
                    work(message)

        self._redis = make_client(self._url, timeout=TIMEOUT)
        # No middleware: the outbox has its own retries, time limits and results.
        broker = RedisBroker(client=self._redis, middleware=[])  # type: ignore[no-untyped-call]
        self._actor = dramatiq.actor(broker=broker, queue_name=QUEUE)(deliver)
        self._worker = dramatiq.Worker(broker, worker_threads=self._concurrency)
        self._worker.start()

    def room(self, in_works: int) -> int:
        """Return how many more ids to queue; only few may wait, or their claims would end."""
        import redis  # noqa: PLC0415 - see `start`

        assert self._redis is not None  # noqa: S101 - started before
        if self._is_left_alone():
            return self._local.room(in_works)
        try:
            waiting = int(self._redis.llen(f"dramatiq:{QUEUE}"))
        except redis.RedisError:
            self._leave_alone()
            return self._local.room(in_works)
        self._outage.end()
        return self._concurrency * 2 - waiting

    def works_here(self) -> bool:
        """Tell whether there is no queue at the moment."""
        return self._is_left_alone()

    def submit(self, message: Message) -> bool:
        """Put a message's id into the queue, or work on the message here without a queue."""
        import redis  # noqa: PLC0415 - see `start`

        if self._is_left_alone():
            return self._local.submit(message)
        try:
            self._actor.send(str(message.id), message.attempts)
        except redis.RedisError:
            self._leave_alone()
            return self._local.submit(message)
        return False

    def stop(self) -> None:
        """Take no more ids, and return those that have not begun to the queue for others."""
        import redis  # noqa: PLC0415 - see `start`

        if self._worker is not None:
            with suppress(redis.RedisError):  # without the queue, claims end
                self._worker.stop(timeout=0)
        self._local.stop()

    def _is_left_alone(self) -> bool:
        return time.monotonic() < self._left_alone_until

    def _leave_alone(self) -> None:
        self._outage.begin()
        self._left_alone_until = time.monotonic() + OUTAGE_SECONDS
