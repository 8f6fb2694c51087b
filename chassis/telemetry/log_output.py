"""Log lines leave for a stream whose reader can neither slow nor fail a request."""

from __future__ import annotations

import logging
import os
import select
import stat
import time
from typing import Protocol, TextIO

from chassis.process.descriptors import open_again
from chassis.telemetry import instruments

# A reader that has much to do gets this long to make room; after that it counts as gone.
PATIENCE_SECONDS = 0.1

logger = logging.getLogger(__name__)


class Output(Protocol):
    """A place for lines."""

    def send(self, data: bytes) -> int:
        """Send what there is room for, and return its size; BlockingIOError if there is none."""

    def wait(self, seconds: float) -> bool:
        """Tell whether there is room within this time."""

    def close(self) -> None:
        """Give back what `open_output` opened."""


class LineHandler(logging.Handler):
    """Writes each record as a line, at once.

    A pipe that nobody reads, a terminal that is held, a full disk, a stream that was closed: the
    first line without room waits `PATIENCE_SECONDS`, those behind it not at all. Lines that found
    no room are counted, and the next line that leaves is followed by their number.
    """

    def __init__(self, stream: TextIO | None) -> None:
        super().__init__()
        self._output = open_output(stream)
        self._dropped = 0
        self._has_room = True
        self._is_torn = False  # whether the last line that left lacks its end

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record; logging holds this handler's lock meanwhile."""
        try:
            line = f"{self.format(record)}\n".encode("utf-8", "backslashreplace")
        except Exception:  # noqa: BLE001 - as logging's own handlers do
            self.handleError(record)
            return
        if self._pass_on(line):
            self._has_room = True
            self._tell_dropped()
        else:
            self._dropped += 1
            instruments.count_dropped_line()

    def close(self) -> None:
        """Write no more lines."""
        super().close()
        self._output.close()

    def _pass_on(self, line: bytes) -> bool:
        """Tell whether all of a line has left."""
        rest = b"\n" + line if self._is_torn else line
        size = len(rest)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while rest:
            try:
                rest = rest[self._output.send(rest) :]
            except BlockingIOError:
                if not self._wait(deadline):
                    break
            except OSError:  # the reader is gone, the disk is full
                break
        if len(rest) < size:
            self._is_torn = bool(rest)
        return not rest

    def _wait(self, deadline: float) -> bool:
        seconds = max(0.0, deadline - time.monotonic()) if self._has_room else 0.0
        self._has_room = self._output.wait(seconds)
        return self._has_room

    def _tell_dropped(self) -> None:
        if self._dropped:
            lines, self._dropped = self._dropped, 0
            logger.warning("Log lines had no reader and were dropped", extra={"lines": lines})


def open_output(stream: TextIO | None) -> Output:
    """Return the output behind a stream; None is Python's name for a stdout that is closed."""
    if stream is None:
        return _File(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC))
    try:
        descriptor = stream.fileno()
    except OSError:  # a stream in memory
        return _Memory(stream)
    again = open_again(descriptor)
    if again is not None:
        return _File(again)
    is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
    return _File(os.dup(descriptor)) if is_file else _Watched(os.dup(descriptor))


class _File:
    """A file, or a pipe or a terminal that does not block."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)

    def send(self, data: bytes) -> int:
        return os.write(self._descriptor, data)

    def wait(self, seconds: float) -> bool:
        return bool(self._poll.poll(seconds * 1000))

    def close(self) -> None:
        os.close(self._descriptor)


class _Watched(_File):
    """A socket, or a pipe of another account: each write begins with a look at its room.

    Another process may take the room in between. A socket that is writable has more of it than
    all processes of a pod write at a time.
    """

    def send(self, data: bytes) -> int:
        if not self.wait(0):
            raise BlockingIOError
        return super().send(data[: select.PIPE_BUF])


class _Memory:
    """A text stream without a descriptor."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def send(self, data: bytes) -> int:
        self._stream.write(data.decode())
        return len(data)

    def wait(self, _seconds: float) -> bool:
        return True

    def close(self) -> None:
        """Leave the stream open: its maker reads it."""
