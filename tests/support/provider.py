"""An e-mail provider that misbehaves on command."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.support.ports import HOST

DRIP = "drip"
FLOOD = "flood"
HANG = "hang"
GARBAGE = "garbage"
CHUNK = b"10000\r\n" + bytes(0x10000) + b"\r\n"


@dataclass(frozen=True, slots=True)
class Mail:
    """One attempt to hand over an e-mail, as the provider saw it."""

    key: str
    to: str
    document: dict[str, Any]
    headers: dict[str, str]
    at: float
    answer: int | str

    @property
    def was_taken(self) -> bool:
        """Whether the provider said yes."""
        if isinstance(self.answer, int):
            return 200 <= self.answer < 300
        return self.answer == FLOOD


@dataclass
class MailProvider:
    """An e-mail service. `answer` is a status, or one of HANG, DRIP, FLOOD and GARBAGE.

    It may change at any time. FLOOD takes the e-mail, and says so without end.

    So may `retry_after`, which goes with a status where it is not empty. When it has answered
    `limit` attempts, all others wait until that is more, or None.
    """

    answer: int | str = 200
    retry_after: str = ""
    limit: int | None = None
    delay_seconds: float = 0.0
    attempts: list[Mail] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0

    def __post_init__(self) -> None:
        self.connections = 0
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
        key = headers.get("idempotency-key", "")
        mail = Mail(key, document["to"], document, headers, time.time(), answer)
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

    def waits_while(self, answer: str) -> Iterator[None]:
        """Yield again and again until the provider answers otherwise, or is closed."""
        while self.answer == answer and not self._closing.wait(0.05):
            yield


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

    def setup(self) -> None:
        super().setup()
        self.server.provider.connections += 1

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
            wait = f"Retry-After: {provider.retry_after}\r\n" if provider.retry_after else ""
            head = f"HTTP/1.1 {answer} Status\r\n{wait}Content-Length: 0\r\n\r\n"
            self.wfile.write(head.encode())
            return
        if answer == HANG:
            list(provider.waits_while(HANG))
        elif answer == DRIP:
            for _ in provider.waits_while(DRIP):
                self.wfile.write(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        elif answer == FLOOD:
            self.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            while provider.answer == FLOOD:
                self.wfile.write(CHUNK)
        else:
            self.wfile.write(b"\x16\x03\x01 this is no HTTP\r\n\r\n")
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Write nothing to stderr."""
