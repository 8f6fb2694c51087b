"""The loop that delivers messages: claim them, hand them to threads, settle them in batches."""

from __future__ import annotations

import logging
import queue
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from uuid import UUID

from opentelemetry import context, propagate

from chassis.background import outbox
from chassis.background.dispatch import Dispatcher
from chassis.background.outbox import Message, MessageStatus, Settlement
from chassis.backing_services import BackingServices
from chassis.clients.resilience import AskedToWait, BreakerOpen, backoff
from chassis.errors import AppError, Unavailable
from chassis.telemetry import instruments
from chassis.telemetry.log_fields import log_fields
from chassis.telemetry.outages import Outage

logger = logging.getLogger(__name__)

Handler = Callable[[BackingServices, Message], bool]
# Called before a message is given up, with the reason.
AbandonedHandler = Callable[[BackingServices, Message, str], None]

POLL_SECONDS = 0.25
# Results within this time of the first one are stored with it. One alone would cost three round
# trips to the database.
GATHER_SECONDS = 0.02
# After the database did not answer, claiming is tried again after this time.
OUTAGE_SECONDS = 1.0
BACKLOG_SECONDS = 5.0
# Longer than any single step may take, all timeouts added up.
STALLED_SECONDS = 60.0


class Delivery:
    """Delivers messages until it is stopped.

    Args:
        services: The attached resources that handlers work with.
        handlers: Topic -> handler; it returns False when there was nothing to do.
        dispatcher: Has messages worked on, by this process or by another.
        lease: Time for which a claimed message belongs to this process.
        abandoned: Topic -> handler to call before a message is given up. When this handler
            fails, the message is tried again instead.
    """

    def __init__(
        self,
        services: BackingServices,
        handlers: Mapping[str, Handler],
        *,
        dispatcher: Dispatcher,
        lease: timedelta,
        abandoned: Mapping[str, AbandonedHandler] | None = None,
    ) -> None:
        self._services = services
        self._handlers = handlers
        self._dispatcher = dispatcher
        self._lease = lease
        self._abandoned = abandoned or {}
        self._results: queue.SimpleQueue[Settlement | None] = queue.SimpleQueue()
        self._claimed: dict[object, Message] = {}
        self._done: list[Settlement] = []
        self._is_stopping = False
        self._outage = Outage(
            logger,
            away="The database is away; delivery goes on when it is back",
            back="The database is back",
        )
        self._backlog_due = 0.0
        self._went_round_at = time.monotonic()

    def run(self) -> None:
        """Deliver until `stop` is called; `close` then takes care of the claimed messages."""
        self._dispatcher.start(self._deliver, self._load)
        while not self._is_stopping:
            self._went_round_at = time.monotonic()
            try:
                self._step()
                self._outage.end()
            except Unavailable:
                self._outage.begin()
                self._gather(wait_seconds=OUTAGE_SECONDS)

    @property
    def is_stopping(self) -> bool:
        """Whether `stop` was called."""
        return self._is_stopping

    def is_alive(self) -> bool:
        """Tell whether the loop has made a turn lately. It does so during an outage, too."""
        return time.monotonic() - self._went_round_at < STALLED_SECONDS

    def stop(self) -> None:
        """Stop claiming; may be called from a signal handler or another thread.

        A signal handler must not take a lock, because the interrupted code may hold it; a
        SimpleQueue takes none.
        """
        self._is_stopping = True
        self._results.put(None)

    def close(self, seconds: float) -> int:
        """Wait for running handlers, for a bounded time, and hand back the other messages.

        Returns:
            How many messages were handed back.
        """
        # The thread that comes to a message that has not begun hands it back. A cancelled task
        # would report no result.
        self._dispatcher.stop()
        deadline = time.monotonic() + seconds
        while self._claimed and (left := deadline - time.monotonic()) > 0:
            self._gather(wait_seconds=min(OUTAGE_SECONDS, left))
            with suppress(Unavailable):
                self._settle()
        done = {each.id for each in self._done}
        waiting = [each for each in list(self._claimed.values()) if each.id not in done]
        self._done += [_hand_back(each, datetime.now(UTC)) for each in waiting]
        try:
            self._settle()
        except Unavailable:
            return 0
        return len(waiting)

    def _step(self) -> None:
        """Claim as many messages as there is room for, wait a moment for results, and settle."""
        # Settle first, so that a finished message is not claimed again after an outage.
        self._settle()
        self._measure_backlog()
        room = self._dispatcher.room(len(self._claimed))
        for message in self._claim(room) if room > 0 else []:
            if self._dispatcher.submit(message):
                self._claimed[message.id] = message
        self._gather(wait_seconds=POLL_SECONDS)

    def _claim(self, limit: int) -> list[Message]:
        with self._services.database.connection() as connection:
            now = datetime.now(UTC)
            return list(outbox.claim(connection, now=now, limit=limit, lease=self._lease))

    def _load(self, message_id: UUID, attempts: int) -> Message | None:
        with self._services.database.connection() as connection:
            return outbox.find_claimed(
                connection, message_id, attempts=attempts, now=datetime.now(UTC)
            )

    def _gather(self, *, wait_seconds: float) -> None:
        """Take in a result, or the call to stop, and all others that have piled up."""
        with suppress(queue.Empty):
            result = self._results.get(timeout=wait_seconds)
            time.sleep(GATHER_SECONDS)
            while True:
                self._done += [result] if result is not None else []
                result = self._results.get_nowait()

    def _settle(self) -> None:
        """Store all results in one transaction.

        Raises:
            Unavailable: the results are kept for the next try. If this process ends before, the
                leases run out, and the messages are delivered again, with the same keys.
        """
        if not self._done:
            return
        with self._services.database.transaction() as connection:
            outbox.settle(connection, self._done)
        for each in self._done:
            self._claimed.pop(each.id, None)
        self._done.clear()

    def _deliver(self, message: Message) -> None:
        self._claimed[message.id] = message
        token = context.attach(propagate.extract(message.trace))
        fields = log_fields.set({"message_id": str(message.id), "topic": message.topic})
        try:
            self._results.put(self._attempt(message))
        finally:
            log_fields.reset(fields)
            context.detach(token)

    def _attempt(self, message: Message) -> Settlement:
        now = datetime.now(UTC)
        if self._is_stopping or message.due_at <= now:  # the claim has run out
            return _hand_back(message, now)
        started_at = time.perf_counter()
        try:
            is_sent = self._handlers[message.topic](self._services, message)
        except BreakerOpen as error:
            # Not counted as an attempt: the dependency was not called.
            due_at = datetime.now(UTC) + (error.retry_after or timedelta(seconds=1))
            return _hand_back(message, due_at)
        except Exception as error:
            if not isinstance(error, AppError):
                logger.exception("Message handler broke")
            settlement = self._failed(message, error)
        else:
            status = MessageStatus.SENT if is_sent else MessageStatus.SKIPPED
            settlement = Settlement(message.id, status, message.attempts, datetime.now(UTC))
        instruments.observe_message(
            message.topic, settlement.status, time.perf_counter() - started_at
        )
        return settlement

    def _failed(self, message: Message, error: Exception) -> Settlement:
        due_at = datetime.now(UTC) + backoff(message.attempts)
        reason = error.detail if isinstance(error, AppError) else type(error).__name__
        reason = reason[: outbox.ERROR_LENGTH]
        is_over = due_at > message.expires_at and self._give_up(message, reason)
        status = MessageStatus.ABANDONED if is_over else MessageStatus.QUEUED
        if isinstance(error, AskedToWait) and error.retry_after:
            # However long that is, the message gets one more try, when it expires.
            asked_for = min(datetime.now(UTC) + error.retry_after, message.expires_at)
            due_at = max(due_at, asked_for)
        return Settlement(message.id, status, message.attempts, due_at, reason)

    def _give_up(self, message: Message, reason: str) -> bool:
        """Call the handler for abandoned messages; tell whether it succeeded."""
        try:
            if handler := self._abandoned.get(message.topic):
                handler(self._services, message, reason)
        except Exception:
            logger.exception("Message could not be given up")
            return False
        logger.error("Message abandoned", extra={"attempts": message.attempts})
        return True

    def _measure_backlog(self) -> None:
        if time.monotonic() < self._backlog_due:
            return
        self._backlog_due = time.monotonic() + BACKLOG_SECONDS
        with self._services.database.connection() as connection:
            waiting = outbox.backlog(connection)
        age = (datetime.now(UTC) - waiting.oldest).total_seconds() if waiting.oldest else 0.0
        instruments.set_backlog(waiting.queued, waiting.abandoned, age)


def _hand_back(message: Message, due_at: datetime) -> Settlement:
    return Settlement(message.id, MessageStatus.QUEUED, message.attempts, due_at, is_tried=False)
