"""gunicorn's worker of threads, in which a slow client holds up nobody but itself."""

from __future__ import annotations

import errno
import math
import mmap
import select
import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from typing import Any

from gunicorn import util
from gunicorn.http.unreader import SocketUnreader
from gunicorn.workers.base import Worker as BaseWorker
from gunicorn.workers.gthread import TConn, ThreadWorker

from chassis.http.framing import MAX_HEAD_BYTES, Arrival

LINGER_SECONDS = 2.0
HEARTBEAT_SECONDS = 0.9
# How long a worker leaves a new connection to one that has fewer.
GIVE_WAY_SECONDS = 0.001
# How long a thread waits for the next request on the connection that it has just answered.
STAY_MILLISECONDS = 5

# How many connections each worker has, plus one; 0 where there is none. All processes forked
# from here see it. With more workers than slots, or a restarted one, it is a little off, which
# only makes for a worse distribution.
_SLOTS = 64
_connections = memoryview(mmap.mmap(-1, 4 * _SLOTS)).cast("i")
# For a client that does not read its answer, or does not go on with a large body.
STALL_SECONDS = 30


class Connection(TConn):
    """A connection, and what has arrived of its next request."""

    def __init__(self, worker: Worker, client: socket.socket, address: Any, server: Any) -> None:
        super().__init__(worker.cfg, client, address, server)
        self.worker = worker
        self.arrival = Arrival()
        self.deadline: float | None = None
        self.is_lingering = False
        self.is_streaming = False
        self.readable = select.poll()
        self.readable.register(client, select.POLLIN)

    def close(self, graceful: bool = False) -> None:  # noqa: FBT001, FBT002 - gunicorn's signature
        """Close, gracefully by the main loop: gunicorn would make the loop wait for the client."""
        if graceful and not self.is_lingering:
            self.worker.linger(self)
        else:
            super().close()


class Arrived(SocketUnreader):
    """What a thread reads: what has arrived, and from the client only what it streams.

    A request that ends elsewhere than expected would otherwise hold the thread.
    """

    def __init__(self, conn: Connection) -> None:
        super().__init__(conn.sock)
        self._conn = conn
        self.is_exhausted = False

    def chunk(self, size_hint: int | None = None) -> Any:
        """Return more, or nothing, which is the end."""
        data = super().chunk(size_hint) if self._conn.is_streaming else b""
        self.is_exhausted = not data
        return data


class Worker(ThreadWorker):
    """Threads that are given whole requests only.

    The main loop gathers what arrives on a connection. A thread takes over when the request
    is complete, or when its body is too large to be kept here; that is for the route to read
    or to refuse. `request_read_seconds` bounds how long a request may take to arrive.
    """

    request_read_seconds = 10.0
    drain_seconds = 0.0
    finish_seconds = 20.0

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.heartbeat: Callable[[], None] = lambda: None
        self.on_drain: Callable[[], None] = lambda: None
        self._notified_at = 0.0
        self._stopping_since: float | None = None
        self._is_quitting = False

    def notify(self) -> None:
        """Tell the master, about once a second, that this worker lives."""
        _connections[self.age % _SLOTS] = self.nr_conns + 1
        now = time.monotonic()
        if now - self._notified_at >= HEARTBEAT_SECONDS:  # the loop calls at each event
            self._notified_at = now
            super().notify()
            self.heartbeat()

    @property
    def is_stopping(self) -> bool:
        """Whether it was told to stop."""
        return self._stopping_since is not None

    def handle_exit(self, sig: int, frame: Any) -> None:  # noqa: ARG002 - a signal handler's
        """Begin to stop: say that no more requests are wanted, and go on serving for a while."""
        if self.is_stopping:
            return
        self._stopping_since = time.monotonic()
        self.on_drain()
        # The loop's own graceful phase begins when the drain has ended.
        self.cfg.set("graceful_timeout", math.ceil(self.finish_seconds))
        threading.Timer(self.drain_seconds, self.method_queue.defer, [self._end_drain]).start()

    def handle_quit(self, sig: int, frame: Any) -> None:
        """End without a drain.

        Ctrl-C comes twice, from the terminal and from the master. gunicorn's threaded worker
        would take a lock here, which the code that a signal interrupts may hold.
        """
        if self._is_quitting:
            return
        self._is_quitting = True
        self._stopping_since = self._stopping_since or time.monotonic()
        BaseWorker.handle_quit(self, sig, frame)

    def _end_drain(self) -> None:
        """Take in who has connected already, then let the loop finish what is in flight."""
        for listener in self.sockets:
            while self._accept(listener):
                pass
        self.set_accept_enabled(False)
        for listener in self.sockets:
            listener.close()  # or who comes now would wait for an answer that nobody gives
        self.log.info("Stopped: drain after %.3f s", self._stopped_for())
        self.alive = False

    def run(self) -> None:
        """Serve until told to stop, and say how long the end of it took."""
        super().run()
        self.log.info("Stopped: requests after %.3f s", self._stopped_for())

    def _stopped_for(self) -> float:
        return time.monotonic() - (self._stopping_since or time.monotonic())

    def accept(self, listener: Any) -> None:
        """Take a connection in and begin to gather its first request.

        All workers wake up for it. Callers keep connections for long, so if it were always the
        quickest that took them, one would work while the others rest.
        """
        if min(filter(None, _connections), default=0) <= self.nr_conns:
            time.sleep(GIVE_WAY_SECONDS)
        self._accept(listener)

    @classmethod
    def forget(cls, age: int) -> None:
        """Count the connections of a worker that ended no more."""
        _connections[age % _SLOTS] = 0

    def _accept(self, listener: Any) -> bool:
        try:
            client, address = listener.accept()
        except OSError as error:
            if error.errno not in {errno.EAGAIN, errno.ECONNABORTED}:
                raise
            return False
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            client.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", STALL_SECONDS, 0))
        self.nr_conns += 1
        _connections[self.age % _SLOTS] = self.nr_conns + 1
        self._gather(Connection(self, client, address, listener.getsockname()))
        return True

    def on_client_socket_readable(self, conn: Any, client: Any) -> None:
        """Begin to gather the next request on a connection that was kept."""
        self.poller.unregister(client)
        self.keepalived_conns.remove(conn)
        self._gather(conn)

    def on_pending_socket_readable(self, conn: Any, client: Any) -> None:
        """Gather more of a request, or wait on for the client to hang up."""
        self.poller.unregister(client)
        self.pending_conns.remove(conn)
        self._gather(conn)

    def handle(self, conn: Any) -> Any:
        """Answer a request, and those that follow at once, while there are threads to spare.

        For each of them the main loop would wake up twice: to hand it over, and to take the
        connection back.
        """
        is_kept = super().handle(conn)
        while is_kept and self._may_stay(conn) and self._next_arrives(conn):
            is_kept = super().handle(conn)
        return is_kept

    def _may_stay(self, conn: Connection) -> bool:
        is_calm = not self.is_stopping and self.nr_conns < self.cfg.threads
        return is_calm and not conn.parser.unreader.buf.getvalue()

    def _next_arrives(self, conn: Connection) -> bool:
        """Wait a moment for the next request; what is not a whole one is for the main loop."""
        if not conn.readable.poll(STAY_MILLISECONDS):
            return False
        try:
            data = conn.sock.recv(MAX_HEAD_BYTES)
        except OSError:
            return False
        conn.parser.unreader.unread(data)
        arrival = Arrival(data)
        return arrival.is_complete() and not arrival.is_large()

    def finish_request(self, conn: Any, fs: Any) -> None:
        """Gather the next request like the first, if a part of it came along with the last."""
        rest = conn.parser.unreader.take_buffered()
        super().finish_request(conn, fs)
        if rest and self.keepalived_conns and self.keepalived_conns[-1] is conn:
            self.keepalived_conns.pop()
            self.poller.unregister(conn.sock)
            self._take(conn, rest)

    def linger(self, conn: Connection) -> None:
        """Say good-bye and close when the client does, so that it can read its answer first.

        Closing at once would discard what the client still sends, and with it, by a reset,
        the answer it has not read (RFC 9112, section 9.6).
        """
        try:
            conn.sock.shutdown(socket.SHUT_WR)
            conn.sock.settimeout(0)
        except OSError:
            conn.close()
            return
        conn.is_lingering = True
        conn.deadline = time.monotonic() + LINGER_SECONDS
        self.nr_conns += 1  # counted off by whoever asked to close
        self._wait(conn)

    def _gather(self, conn: Connection) -> None:
        try:
            data = conn.sock.recv(MAX_HEAD_BYTES)
        except BlockingIOError:
            self._wait(conn)
        except OSError:
            self._take(conn, b"")
        else:
            self._take(conn, data)

    def _take(self, conn: Connection, data: bytes) -> None:
        """Add what has arrived, nothing at the end, and see whether that is a request."""
        if conn.is_lingering:
            self._wait(conn) if data else self._drop(conn)
            return
        conn.arrival.data += data
        if not data or conn.arrival.is_complete():
            self._dispatch(conn)
            return
        if conn.arrival.wants_to_be_asked():
            with suppress(OSError):  # a client that is gone shows at the next read
                conn.sock.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            conn.arrival.forget_expectation()
        self._wait(conn)

    def _wait(self, conn: Connection) -> None:
        if conn.deadline is None:
            conn.deadline = time.monotonic() + self.request_read_seconds
        conn.timeout = conn.deadline
        self.pending_conns.append(conn)
        self.poller.register(
            conn.sock, selectors.EVENT_READ, partial(self.on_pending_socket_readable, conn)
        )

    def _dispatch(self, conn: Connection) -> None:
        arrival, conn.arrival = conn.arrival, Arrival()
        if not arrival.data:
            self._drop(conn)
            return
        if arrival.has_large_head():
            self._refuse(conn, HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
            return
        conn.deadline = None
        conn.data_ready = True
        conn.is_streaming = arrival.is_large()
        if not conn.initialized:
            conn.init()
            conn.parser.unreader = Arrived(conn)
        conn.parser.unreader.unread(bytes(arrival.data))
        self.enqueue_req(conn)

    def _refuse(self, conn: Connection, status: HTTPStatus) -> None:
        with suppress(OSError):
            util.write_error(conn.sock, status, status.phrase, "")
        self.nr_conns -= 1
        conn.close(graceful=True)

    def _drop(self, conn: Connection) -> None:
        self.nr_conns -= 1
        conn.close()

    def murder_pending(self) -> None:
        """Close the connections whose request took too long to arrive."""
        now = time.monotonic()
        for conn in [each for each in self.pending_conns if each.timeout <= now]:
            self.pending_conns.remove(conn)
            self.poller.unregister(conn.sock)
            self._drop(conn)

    def _keepalive_after(self, conn: Connection, keepalive: bool) -> bool:  # noqa: FBT001
        # What is left of a large body is not worth a thread that waits for it. Where a body
        # ran out, what comes next is no request, but more of it.
        is_whole = not conn.is_streaming and super()._keepalive_after(conn, keepalive)
        return is_whole and not conn.parser.unreader.is_exhausted
