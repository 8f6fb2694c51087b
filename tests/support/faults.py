"""Servers that misbehave on command: a TCP proxy and an e-mail provider."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.support.ports import HOST, free_port

RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # struct linger: on, zero seconds


class Mode(StrEnum):
    """How a proxy treats what passes through it."""

    PASS = "pass"
    LATENCY = "latency"
    BLACKHOLE = "blackhole"
    RESET = "reset"


class FaultProxy:
    """A TCP proxy to a port of this machine whose mode can be changed while it runs.

    PASS hands on what arrives, LATENCY does so later, BLACKHOLE holds it back until the mode
    changes, as a network that loses packets does, and RESET resets every connection.
    """

    def __init__(self, target_port: int, *, latency_seconds: float = 0.1) -> None:
        self.port = free_port()
        self.latency_seconds = latency_seconds
        self._target_port = target_port
        self._mode = Mode.PASS
        self._open = asyncio.Event()
        self._open.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(self._serve, HOST, self.port), self._loop
        ).result()

    @property
    def mode(self) -> Mode:
        """How the proxy behaves now."""
        return self._mode

    def set_mode(self, mode: Mode) -> None:
        """Behave differently from now on, on connections that are open too."""
        changed = threading.Event()

        def change() -> None:
            self._mode = mode
            if mode is Mode.BLACKHOLE:
                self._open.clear()
            else:
                self._open.set()
            if mode is Mode.RESET:
                self._reset_all()
            changed.set()

        self._loop.call_soon_threadsafe(change)
        changed.wait()

    @contextmanager
    def behaving(self, mode: Mode) -> Iterator[None]:
        """Behave differently for a while."""
        self.set_mode(mode)
        try:
            yield
        finally:
            self.set_mode(Mode.PASS)

    def close(self) -> None:
        """Stop, and reset what is connected."""

        async def shut() -> None:
            self._server.close()
            self._reset_all()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(shut(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            if self._mode is Mode.RESET:
                return
            await self._open.wait()
            with suppress(OSError):
                far_reader, far_writer = await asyncio.open_connection(HOST, self._target_port)
                self._writers.add(far_writer)
                pumps = [
                    asyncio.ensure_future(self._pump(reader, far_writer)),
                    asyncio.ensure_future(self._pump(far_reader, writer)),
                ]
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
                for pump in pumps:
                    pump.cancel()
                self._drop(far_writer)
        except asyncio.CancelledError:
            pass  # by close, which is all there is to say
        finally:
            self._drop(writer)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while True:
                data = await reader.read(65_536)
                await self._open.wait()
                if self._mode is Mode.LATENCY:
                    await asyncio.sleep(self.latency_seconds)
                if not data:
                    return
                writer.write(data)
                await writer.drain()

    def _drop(self, writer: asyncio.StreamWriter) -> None:
        self._writers.discard(writer)
        if self._mode is Mode.RESET:
            _reset(writer)
        else:
            writer.close()

    def _reset_all(self) -> None:
        for writer in list(self._writers):
            _reset(writer)


def _reset(writer: asyncio.StreamWriter) -> None:
    peer = writer.get_extra_info("socket")
    with suppress(OSError):  # it may be closed already
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    writer.transport.abort()


HANG = "hang"
GARBAGE = "garbage"


@dataclass(frozen=True, slots=True)
class Mail:
    """One attempt to hand over an e-mail, as the provider saw it."""

    key: str
    to: str
    document: dict[str, Any]
    headers: dict[str, str]
    at: float
    was_taken: bool


@dataclass
class MailProvider:
    """An e-mail service. `answer` is a status, HANG or GARBAGE, and may change at any time.

    When it has answered `limit` attempts, all others wait until that is more, or None.
    """

    answer: int | str = 200
    limit: int | None = None
    delay_seconds: float = 0.0
    attempts: list[Mail] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._server = _HttpServer((HOST, 0), _Handler)
        self._server.provider = self
        self.url = f"http://{HOST}:{self._server.server_port}/send"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    @property
    def taken(self) -> list[Mail]:
        """The e-mails that the provider said yes to."""
        return [mail for mail in list(self.attempts) if mail.was_taken]

    def close(self) -> None:
        """Stop serving; what hangs is let go."""
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def take(self, headers: dict[str, str], body: bytes) -> int | str:
        """Note an attempt and return how to answer it."""
        with self._lock:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        self._closing.wait(self.delay_seconds)
        while self._is_exhausted() and not self._closing.wait(0.05):
            pass
        answer = self.answer
        document = json.loads(body)
        was_taken = isinstance(answer, int) and 200 <= answer < 300
        mail = Mail(
            headers.get("idempotency-key", ""),
            document["to"],
            document,
            headers,
            time.time(),
            was_taken,
        )
        with self._lock:
            self.attempts.append(mail)
        return answer

    def _is_exhausted(self) -> bool:
        limit = self.limit
        return limit is not None and len(self.attempts) >= limit

    def leave(self) -> None:
        """Note that an attempt is over."""
        with self._lock:
            self.at_once -= 1

    def wait_while_hanging(self) -> None:
        """Return when the provider answers again, or is closed."""
        while self.answer == HANG and not self._closing.wait(0.05):
            pass


class _HttpServer(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256
    provider: MailProvider

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients that hang up belong to these tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _HttpServer

    def do_POST(self) -> None:
        provider = self.server.provider
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            answer = provider.take(headers, body)
            self._answer(provider, answer)
        finally:
            provider.leave()

    def do_GET(self) -> None:
        self._answer(self.server.provider, self.server.provider.answer)

    def _answer(self, provider: MailProvider, answer: int | str) -> None:
        if isinstance(answer, int):
            self.wfile.write(f"HTTP/1.1 {answer} Status\r\nContent-Length: 0\r\n\r\n".encode())
            return
        if answer == HANG:
            provider.wait_while_hanging()
        else:
            self.wfile.write(b"\x16\x03\x01 this is no HTTP\r\n\r\n")
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Write nothing to stderr."""
