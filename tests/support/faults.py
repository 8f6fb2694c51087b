"""A TCP proxy that misbehaves on command."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum

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
