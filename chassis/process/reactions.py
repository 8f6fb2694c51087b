"""Work that signals ask for, done where it may take locks and time.

A handler interrupts the main thread anywhere, also another handler, and also while that thread
holds a lock: of logging, or that by which threads are started.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from types import FrameType


def beside(name: str, react: Callable[[], object]) -> Callable[[], None]:
    """Return a function that handlers may call, after which a thread of this name reacts."""
    calls: SimpleQueue[None] = SimpleQueue()

    def work() -> None:
        while True:
            calls.get()
            react()

    threading.Thread(target=work, name=name, daemon=True).start()
    return partial(calls.put, None)


class Pending:
    """A signal that waits for its turn once, however often it comes.

    Else a flood of it would keep all signals behind it waiting, SIGTERM among them.

    Args:
        queue: A handler that has the signal wait.
        react: Does what the signal asks for.
    """

    def __init__(
        self, queue: Callable[[int, FrameType | None], object], react: Callable[[], object]
    ) -> None:
        self._queue = queue
        self._react = react
        self._waits = False

    def hear(self, number: int, frame: FrameType | None) -> None:
        """Have the signal wait, unless it does so already; a signal handler."""
        if not self._waits:
            self._waits = True
            self._queue(number, frame)

    def handle(self) -> None:
        """Do what the signal asks for, when its turn has come."""
        self._waits = False
        self._react()
