"""A service over HTTP that answers with whichever bytes a test wants, as slowly as it wants."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from tests.support.ports import HOST
from tests.support.waiting import DEADLINE_SECONDS

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, as it came in."""

    line: str
    headers: dict[str, str]
    body: bytes
    connection: int


Behave = Callable[[socket.socket, "RawService"], bool]


@dataclass
class RawService:
    """Answers each request by calling `behave`; the connection is kept where that returns True.

    Args:
        behave: Writes to the socket as it likes. An OSError from it means that the caller has
            hung up.
        tls: Speaks TLS with it, when given.
    """

    behave: Behave
    tls: ssl.SSLContext | None = None
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0
    hung_up: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._closing = threading.Event()
        self._listener = socket.create_server((HOST, 0), backlog=128)
        self.port = self._listener.getsockname()[1]
        self.url = f"{'https' if self.tls else 'http'}://{HOST}:{self.port}/send"
        self._peers: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def rest(self, seconds: float = 0.02) -> None:
        """Wait a moment before the next bytes; raises OSError when the test is over."""
        if self._closing.wait(seconds):
            raise ConnectionAbortedError

    def await_end(self, peer: socket.socket) -> bool:
        """Say nothing more until the caller hangs up, which ends the connection."""
        peer.settimeout(DEADLINE_SECONDS)
        while peer.recv(65_536):
            pass
        self.hung_up.set()
        return False

    def close(self) -> None:
        """Hang up on everyone."""
        self._closing.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for peer in self._peers:
            with suppress(OSError):
                peer.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                peer, _ = self._listener.accept()
                self._peers.append(peer)
                self.connections += 1
                number = self.connections
                threading.Thread(target=self._serve, args=(peer, number), daemon=True).start()

    def _serve(self, peer: socket.socket, number: int) -> None:
        try:
            if self.tls:
                peer = self.tls.wrap_socket(peer, server_side=True)
            while self._read(peer, number) and self.behave(peer, self):
                pass
        except OSError:
            self.hung_up.set()
        finally:
            peer.close()

    def _read(self, peer: socket.socket, number: int) -> bool:
        """Read a request; False when there is none."""
        data = b""
        while b"\r\n\r\n" not in data:
            if not (piece := peer.recv(65_536)):
                return False
            data += piece
        head, _, body = data.partition(b"\r\n\r\n")
        line, *fields = head.decode("latin-1").split("\r\n")
        pairs = [each.partition(": ") for each in fields]
        headers = {name.lower(): value for name, _, value in pairs}
        while len(body) < int(headers.get("content-length", "0")):
            body += peer.recv(65_536)
        self.asked.append(Asked(line, headers, body, number))
        return True


def says(*pieces: bytes, keeps: bool = True) -> Behave:
    """Answer with these bytes, piece by piece."""

    def behave(peer: socket.socket, service: RawService) -> bool:
        for piece in pieces:
            peer.sendall(piece)
            service.rest(0.01)
        return keeps

    return behave


def drips(head: bytes, drop: bytes) -> Behave:
    """Answer with a beginning, and then with the same little again and again, for ever."""

    def behave(peer: socket.socket, service: RawService) -> bool:
        peer.sendall(head)
        while True:
            peer.sendall(drop)
            service.rest()

    return behave
