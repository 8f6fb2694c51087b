"""Bounded pools of threads, which refuse tasks instead of growing."""

from __future__ import annotations

import contextvars
import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from chassis.errors import Unavailable
from chassis.telemetry import instruments

logger = logging.getLogger(__name__)


class PoolFull(Unavailable):
    """The queue of the pool is full."""

    title = "Too many tasks are waiting"


@dataclass(frozen=True, slots=True)
class Task:
    """A function that waits for a thread, with the context of its caller."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    future: Future[Any]
    context: contextvars.Context
    submitted_at: float


class Pool:
    """A number of threads that take tasks from a bounded queue; started by the first task.

    Args:
        name: The pool's name in metrics.
        size: Number of tasks that run at a time.
        capacity: Number of tasks that may wait.
    """

    def __init__(self, name: str, *, size: int, capacity: int) -> None:
        self._name = name
        self._size = size
        self._tasks: queue.Queue[Task] = queue.Queue(capacity)
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._is_closed = False
        instruments.prepare_pool(name)

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Queue a task; it keeps the caller's trace and log fields.

        Raises:
            PoolFull: too many tasks wait, or the pool is closing.
        """
        self._start()
        future: Future[Any] = Future()
        task = Task(function, arguments, future, contextvars.copy_context(), time.perf_counter())
        if self._is_closed:
            raise PoolFull
        try:
            self._tasks.put_nowait(task)
        except queue.Full:
            raise PoolFull from None
        instruments.set_pool_depth(self._name, self._tasks.qsize())
        return future

    def close(self, deadline: float) -> int:
        """Wait for tasks until `deadline` (monotonic), cancel the rest; return their number."""
        self._is_closed = True
        while not self._is_idle() and time.monotonic() < deadline:
            time.sleep(0.01)
        cancelled = 0
        while True:
            try:
                cancelled += self._tasks.get_nowait().future.cancel()
            except queue.Empty:
                return cancelled

    def call(self, task: Task) -> Any:
        """Run a task in one of the threads; return the function's result."""
        return task.context.run(task.function, *task.arguments)

    def slot(self) -> Callable[[Task], Any]:
        """Return the function that runs tasks for one of the threads."""
        return self.call

    def _is_idle(self) -> bool:
        return self._tasks.unfinished_tasks == 0

    def _start(self) -> None:
        with self._lock:
            while len(self._threads) < self._size and not self._is_closed:
                name = f"{self._name}-{len(self._threads)}"
                thread = threading.Thread(target=self._run, name=name, daemon=True)
                self._threads.append(thread)
                thread.start()

    def _run(self) -> None:
        run: Callable[[Task], Any] | None = None
        while True:
            task = self._tasks.get()
            try:
                run = run or self.slot()
                self._work(run, task)
            except Exception as error:  # or there would be a thread less
                logger.exception("Thread broke", extra={"error_type": type(error).__name__})
                if not task.future.done():
                    task.future.set_exception(error)
            finally:
                self._tasks.task_done()

    def _work(self, run: Callable[[Task], Any], task: Task) -> None:
        started_at = time.perf_counter()
        instruments.observe_task_wait(self._name, started_at - task.submitted_at)
        instruments.set_pool_depth(self._name, self._tasks.qsize())
        if not task.future.set_running_or_notify_cancel():
            return
        try:
            result = run(task)
        except BaseException as error:  # noqa: BLE001 - it belongs to the caller that waits
            task.future.set_exception(error)
            outcome = "error"
        else:
            task.future.set_result(result)
            outcome = "success"
        instruments.observe_task(self._name, outcome, time.perf_counter() - started_at)
