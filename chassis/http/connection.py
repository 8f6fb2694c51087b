"""One client's connection: the loop gathers requests, a thread answers them one by one."""

from __future__ import annotations

import logging
import socket
import time
import traceback
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from chassis.http.answer import CONTINUE, Answer, refuse
from chassis.http.link import Link
from chassis.http.pace import Pace
from chassis.http.reader import Reader
from chassis.http.request import Refused, Request
from chassis.http.upload import Upload
from chassis.http.wire import Gone

if TYPE_CHECKING:
    from chassis.http.worker import Worker

logger = logging.getLogger(__name__)

# A thread stays with a client that sent its last request within this time (ADR 31).
BRISK_SECONDS = 0.02


class Connection(Link):
    """The requests that arrive from one client, and their answers.

    Attributes:
        is_idle: Whether no byte of a request has arrived.
        began_at: Monotonic time at which idleness, or the arrival of a request, began.
    """

    def __init__(self, worker: Worker, sock: socket.socket, base: dict[str, Any]) -> None:
        super().__init__(worker.loop, sock)
        self.is_idle = True
        self._worker = worker
        self._reader = Reader(base, worker.limits)
        self._answer: Answer | None = None
        self._closes = self._is_seated = self._may_stay = False
        self._rested_at = 0.0
        self.began_at = time.monotonic()
        self.deadline = self.began_at + worker.request_read_seconds
        self.watch()

    # Called in the loop.

    def expire(self, now: float, idle_until: float) -> None:
        """Refuse, or close, the connection of a client that takes too long."""
        if self._wire.is_late(now):
            self._stop_sending()
        elif self.is_busy:
            return
        elif self.is_idle and now >= min(self.deadline, idle_until):
            self.close()
        elif now >= self.deadline:
            if self._is_lingering:
                self.close()
            else:
                self._refuse(HTTPStatus.REQUEST_TIMEOUT, self._reader.method)

    def close(self) -> None:
        """Close at once, and for good."""
        if not self._is_closed:
            super().close()
            self._reader.close()
            self._worker.forget_connection(self)

    def _on_data(self, data: bytes) -> None:
        self._reader.feed(data)
        self._look()

    def _on_end(self) -> None:
        self._reader.end()
        self._look()
        if not self.is_busy:
            self.close()

    def _on_sent(self) -> None:
        if self._answer is not None and not self._answer.is_over:
            self._worker.submit(self.work)
        elif self._finish():
            self._rest()

    def _lose(self) -> None:
        self._worker.submit(self._abandon)

    def _look(self) -> None:
        """Answer the next request if one has arrived."""
        arrived = self._reader.arrived
        if self.is_idle and (arrived or self._reader.has_begun):
            self.is_idle = False
            self.began_at = time.monotonic()
            self.deadline = self.began_at + self._worker.request_read_seconds
        if arrived:
            item = arrived[0]
            if isinstance(item, Refused):
                self._refuse(item.status, item.method)
            elif item.upload is None or self._is_ready(item.upload):
                self._hand_over(item)

    def _look_again(self) -> None:
        self.is_busy, self.is_idle = False, True
        self.watch()
        self._look()

    def _is_ready(self, upload: Upload) -> bool:
        """Tell whether the application can be called; else the loop gathers the body first.

        A client may ask whether to send the body. The application is then called at once,
        because it may refuse. Slow clients must not take all threads, so the number of such
        calls is bounded; beyond it the loop tells the client to go on.
        """
        if upload.is_whole or not upload.is_small:
            return True
        if upload.is_broken:
            self._refuse(HTTPStatus.BAD_REQUEST, self._reader.method)
        elif upload.is_asked_for:
            self._is_seated = self._worker.seats.acquire(blocking=False)
            if not self._is_seated:
                upload.is_asked_for = False
                self._wire.tell(CONTINUE)
        return self._is_seated

    def _hand_over(self, request: Request) -> None:
        self.is_busy = True
        is_brisk = self.began_at - self._rested_at < BRISK_SECONDS
        self._may_stay = is_brisk and self._worker.has_threads_to_spare()
        if self._may_stay or request.is_unread:
            self._unwatch()
        self._worker.submit(self.work)

    # Called in a thread; in the loop only while no thread has the connection.

    def work(self) -> None:
        """Answer the request that has arrived, or go on with its answer."""
        try:
            while self._make_answer():
                if not self._next_arrives():
                    self._rest()
                    return
        except Gone:
            self._abandon()
        except Exception as error:  # noqa: BLE001 - the application's, of any kind
            self._fail(error)

    def _make_answer(self) -> bool:
        """Send an answer; tell whether all of it has left and the connection is kept."""
        answer = self._answer
        if answer is not None:
            data = answer.more()
        else:
            item = self._reader.arrived.popleft()
            if isinstance(item, Refused):
                self._refuse(item.status, item.method)
                return False
            if item.upload is not None:
                self._receive_for(item.upload)
            answer = self._answer = Answer(item, self._worker.may_keep)
            data = answer.begin(self._worker.application)
            self._closes = answer.closes
        while self._send(data):
            if answer.is_over:
                return self._finish()
            data = answer.more()
        return False

    def _receive_for(self, upload: Upload) -> None:
        pace = Pace(self._worker.request_read_seconds)

        def receive() -> None:
            if upload.is_asked_for:
                upload.is_asked_for = False
                self._wire.tell(CONTINUE)
            data = self._wire.read_by(pace)
            self._reader.feed(data) if data else self._reader.end()

        upload.receive = receive

    def _finish(self) -> bool:
        """End an answer that has left; tell whether the connection is kept."""
        self._answer = self._wire.pace = None
        self._give_seat_back()
        self._worker.count_answer()
        if self._closes:
            self._linger()
        return not self._closes

    def _give_seat_back(self) -> None:
        if self._is_seated:
            self._is_seated = False
            self._worker.seats.release()

    def _next_arrives(self) -> bool:
        """Wait a moment for the next request; tell whether it is whole. Else the loop waits."""
        if not self._may_stay or not self._worker.has_threads_to_spare():
            return False
        self._reader.go_on()
        if not self._reader.arrived:
            self._reader.feed(self._wire.read_soon())
        return self._has_whole_request()

    def _has_whole_request(self) -> bool:
        item = self._reader.arrived[0] if self._reader.arrived else None
        return isinstance(item, Request) and item.upload is None

    def _rest(self) -> None:
        """Queue the next request behind those of other clients, or let the loop wait for one."""
        self._reader.go_on()
        if self._has_whole_request():
            self._worker.submit(self.work)
            return
        if self._reader.arrived:
            self._in_loop(self._look_again)
            return
        self._rested_at = self.began_at = time.monotonic()
        self.is_idle = not self._reader.has_begun
        worker = self._worker
        patience = worker.keepalive_seconds if self.is_idle else worker.request_read_seconds
        self.deadline = self._rested_at + patience
        self._give_back()

    def _refuse(self, status: HTTPStatus, method: str, *, is_counted: bool = False) -> None:
        """Answer in place of the application; the connection ends with the answer."""
        self.is_busy = self._closes = True
        self.is_idle = False
        if not is_counted:
            self._worker.count_refusal(method, status, time.monotonic() - self.began_at)
        line, headers, body = self._worker.refusal(status)
        try:
            if self._send([refuse(line, headers, body, method)]):
                self._finish()
        except Gone:
            self._abandon()

    def _fail(self, error: Exception) -> None:
        """Answer 500 for an application that failed, or break off an answer that has begun."""
        # The error's text is left out: it may quote the client's data.
        frames = "".join(traceback.format_tb(error.__traceback__))
        extra = {"error_type": type(error).__name__, "frames": frames}
        logger.error("Request failed in the server", extra=extra)
        answer = self._answer
        if answer is None or answer.has_head:
            self._abandon()
            return
        self._answer = None
        answer.close()
        self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR, answer.method, is_counted=answer.is_started)

    def _abandon(self) -> None:
        """End with a reset, so that the client does not take a part of an answer for the whole."""
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.close()
        self._give_seat_back()
        self._wire.reset()
        self._in_loop(self.close)
