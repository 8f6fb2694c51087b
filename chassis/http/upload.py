"""The body of a request that the application reads while it arrives."""

from __future__ import annotations

from collections.abc import Callable
from io import RawIOBase
from typing import TYPE_CHECKING

from werkzeug.exceptions import ClientDisconnected

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class Incomplete(ClientDisconnected):
    """The body is not whole: the client left, was too slow, or broke the framing."""


class Upload(RawIOBase):
    """The application's `wsgi.input`; an incomplete body raises, and never passes for the whole.

    Args:
        content: The part that has arrived already.
        is_asked_for: Whether the client waits for 100 Continue before it sends the body.
        is_small: Whether the body is small enough to be gathered first.
    """

    def __init__(
        self,
        content: bytes | bytearray = b"",
        *,
        is_asked_for: bool = False,
        is_small: bool = False,
    ) -> None:
        super().__init__()
        self.is_asked_for = is_asked_for
        self.is_small = is_small
        self.is_whole = False
        self.is_broken = False
        self.receive: Callable[[], None] = self.give_up
        self._content = bytearray(content)

    def add(self, piece: bytes) -> None:
        """Take in a piece that has arrived."""
        self._content += piece
        self.is_asked_for = False

    def give_up(self) -> None:
        """Note that no more pieces will come."""
        self.is_broken = not self.is_whole

    def readable(self) -> bool:
        """Return True: an upload can be read."""
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Read some of the body, waiting for the client if need be; return 0 at its end.

        Raises:
            Incomplete: the body will never be whole.
        """
        while not self._content:
            if self.is_whole:
                return 0
            if self.is_broken:
                raise Incomplete
            self.receive()
        view = memoryview(buffer)
        size = min(len(view), len(self._content))
        view[:size] = self._content[:size]
        del self._content[:size]
        return size
