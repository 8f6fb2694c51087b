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

from chassis.background import outbox, redaction
from chassis.background.dispatch import Dispatcher
from chassis.background.outbox import Message, MessageStatus, Settlement
from chassis.background.read_ahead import ReadAhead, Reader, fresh
from chassis.backing_services import BackingServices
from chassis.clients.resilience import AskedToWait, BreakerOpen, backoff
from chassis.errors import AppError, Unavailable, Undeliverable
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
# Longest pause after defects; shorter than what `is_alive` takes for a stall.
MAX_PAUSE_SECONDS = 30.0
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
        readers: Topic -> reader for many messages at once.
    """

    def __init__(  # noqa: PLR0913 - the parts of one loop, by name
        self,
        services: BackingServices,
        handlers: Mapping[str, Handler],
        *,
        dispatcher: Dispatcher,
        lease: timedelta,
        abandoned: Mapping[str, AbandonedHandler] | None = None,
        readers: Mapping[str, Reader] | None = None,
    ) -> None:
        self._services = services
        self._handlers = handlers
        self._dispatcher = dispatcher
        self._lease = lease
        self._abandoned = abandoned or {}
        self._ahead = ReadAhead(services, readers or {})
        self._results: queue.SimpleQueue[Settlement | None] = queue.SimpleQueue()
        self._claimed: dict[object, Message] = {}
        self._ends_at: dict[UUID, float] = {}  # monotonic
        self._done: list[Settlement] = []
        self._is_stopping = False
        self._outage = Outage(
            logger,
            away="The database is away; delivery goes on when it is back",
            back="The database is back",
        )
        self._backlog_due = 0.0
        self._went_round_at = time.monotonic()
        instruments.prepare_messages(handlers, MessageStatus)

    def run(self) -> None:
        """Deliver until `stop` is called; `close` then takes care of the claimed messages.

        An exception never ends the loop. Without the database, or before its first migration,
        it waits.
        """
        self._dispatcher.start(self._deliver, self._load)
        failures = 0
        while not self._is_stopping:
            self._went_round_at = time.monotonic()
            try:
                self._step()
                self._outage.end()
                failures = 0
            except Unavailable as error:
                self._outage.begin(reason=error.detail)
                self._gather(wait_seconds=OUTAGE_SECONDS)
            except Exception:
                # A defect, but those who wait for other messages must not wait for its mend.
                logger.exception("Delivery broke; it goes on")
                failures += 1
                self._gather(wait_seconds=min(backoff(failures).total_seconds(), MAX_PAUSE_SECONDS))

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
            self._try_to_settle()
        done = {each.id for each in self._done}
        waiting = [each for each in list(self._claimed.values()) if each.id not in done]
        self._done += [_hand_back(each) for each in waiting]
        return len(waiting) if self._try_to_settle() else 0

    def _step(self) -> None:
        """Claim as many messages as there is room for, wait a moment for results, and settle."""
        # Settle first, so that a finished message is not claimed again after an outage.
        self._settle()
        self._measure_backlog()
        room = self._dispatcher.room(len(self._claimed))
        for message in self._claim(room) if room > 0 else []:
            if self._dispatcher.submit(message):
                self._claimed[message.id] = message
            else:
                self._ends_at.pop(message.id, None)
        self._gather(wait_seconds=POLL_SECONDS)

    def _claim(self, limit: int) -> list[Message]:
        asked_at = time.monotonic()
        with self._services.database.connection() as connection:
            claimed = outbox.claim(connection, limit=limit, lease=self._lease)
        held = [self._hold(each, asked_at) for each in claimed]
        return self._ahead.read(held) if self._dispatcher.works_here() else held

    def _load(self, message_id: UUID, attempts: int) -> Message | None:
        asked_at = time.monotonic()
        with self._services.database.connection() as connection:
            message = outbox.find_claimed(connection, message_id, attempts=attempts)
        return self._hold(message, asked_at) if message is not None else None

    def _hold(self, message: Message, asked_at: float) -> Message:
        """Note until when the claim holds by the clock of this process, which never jumps."""
        left = message.due_at - message.claimed_at
        self._ends_at[message.id] = asked_at + left.total_seconds()
        return message

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
            redaction.redact(connection, self._done)
        for each in self._done:
            self._claimed.pop(each.id, None)
            self._ends_at.pop(each.id, None)
        self._done.clear()

    def _try_to_settle(self) -> bool:
        try:
            self._settle()
        except Unavailable:
            return False
        except Exception:
            logger.exception("Delivery broke; claims end by themselves")
            return False
        return True

    def _deliver(self, message: Message) -> None:
        self._claimed[message.id] = message
        try:
            settlement = self._attempt_in_context(message)
        except Exception as error:  # or it would count as in the works for good
            logger.exception("Delivery broke; it goes on")
            settlement = self._failed(message, error)
        self._results.put(settlement._replace(payload=message.payload))

    def _attempt_in_context(self, message: Message) -> Settlement:
        token = context.attach(propagate.extract(message.trace))
        fields = log_fields.set({"message_id": str(message.id), "topic": message.topic})
        try:
            return self._attempt(message)
        finally:
            log_fields.reset(fields)
            context.detach(token)

    def _attempt(self, message: Message) -> Settlement:
        if self._is_stopping or time.monotonic() >= self._ends_at.get(message.id, 0.0):
            return _hand_back(message)
        started_at = time.perf_counter()
        try:
            is_sent = self._handlers[message.topic](self._services, fresh(message))
        except BreakerOpen as error:
            # Not counted as an attempt: the dependency was not called.
            return _hand_back(message, error.retry_after or timedelta(seconds=1))
        except Undeliverable as error:
            settlement = _skip(message, error)
        except Exception as error:
            if not isinstance(error, AppError):
                logger.exception("Message handler broke")
            settlement = self._failed(message, error)
        else:
            status = MessageStatus.SENT if is_sent else MessageStatus.SKIPPED
            settlement = Settlement(message.id, status, message.attempts)
        instruments.observe_message(
            message.topic, settlement.status, time.perf_counter() - started_at
        )
        return settlement

    def _failed(self, message: Message, error: Exception) -> Settlement:
        due_in, due_at = backoff(message.attempts), None
        reason = error.detail if isinstance(error, AppError) else type(error).__name__
        reason = reason[: outbox.ERROR_LENGTH]
        is_late = message.claimed_at + due_in > message.expires_at
        is_over = is_late and self._give_up(message, reason)
        status = MessageStatus.ABANDONED if is_over else MessageStatus.QUEUED
        if not is_late and isinstance(error, AskedToWait) and error.retry_after:
            due_in = max(due_in, error.retry_after)
            if message.claimed_at + due_in > message.expires_at:
                due_at = message.expires_at  # however long it asked for, one more try is left
        return Settlement(
            message.id, status, message.attempts, due_at, last_error=reason, due_in=due_in
        )

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
        instruments.set_backlog(waiting.queued, waiting.abandoned, age, measured_at=time.time())


def _skip(message: Message, reason: Undeliverable) -> Settlement:
    text = reason.detail[: outbox.ERROR_LENGTH]
    logger.warning("Message skipped", extra={"reason": text, "attempts": message.attempts})
    return Settlement(message.id, MessageStatus.SKIPPED, message.attempts, last_error=text)


def _hand_back(message: Message, due_in: timedelta = timedelta(0)) -> Settlement:
    queued = MessageStatus.QUEUED
    return Settlement(message.id, queued, message.attempts, is_tried=False, due_in=due_in)
