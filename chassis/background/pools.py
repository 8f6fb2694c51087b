"""Bounded pools of threads and of processes, which refuse tasks instead of growing."""

from __future__ import annotations

import contextvars
import logging
import multiprocessing
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

from opentelemetry import context, propagate

from chassis.errors import AppError, Unavailable
from chassis.telemetry import instruments
from chassis.telemetry.log_fields import log_fields
from chassis.telemetry.propagation import outgoing_headers

logger = logging.getLogger(__name__)


class PoolFull(Unavailable):
    """The queue of the pool is full."""

    title = "Too many tasks are waiting"


class TaskKilled(AppError):
    """The process died while it worked on the task."""

    code = "task_killed"
    title = "The task ended its process"


@dataclass(frozen=True, slots=True)
class _Task:
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
        self._tasks: queue.Queue[_Task] = queue.Queue(capacity)
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._is_closed = False

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Queue a task; it keeps the caller's trace and log fields.

        Raises:
            PoolFull: too many tasks wait, or the pool is closing.
        """
        self._start()
        future: Future[Any] = Future()
        task = _Task(function, arguments, future, contextvars.copy_context(), time.perf_counter())
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

    def call(self, task: _Task) -> Any:
        """Run a task in one of the threads; return the function's result."""
        return task.context.run(task.function, *task.arguments)

    def slot(self) -> Callable[[_Task], Any]:
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
        run: Callable[[_Task], Any] | None = None
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

    def _work(self, run: Callable[[_Task], Any], task: _Task) -> None:
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


class ProcessPool(Pool):
    """A pool whose threads each own a process, so that a task that kills its process is alone.

    Processes start on first use, from a fork server: forking a process with threads is unsafe.

    Args:
        prepare: Called once in each new process; it is pickled, so it cannot be a closure.
        shared: Modules that the fork server imports once for all processes.
    """

    def __init__(
        self,
        name: str,
        *,
        size: int,
        capacity: int,
        prepare: Callable[[], None] | None = None,
        shared: Sequence[str] = (),
    ) -> None:
        super().__init__(name, size=size, capacity=capacity)
        self._prepare = prepare
        self._shared = shared
        self._executors: set[ProcessPoolExecutor] = set()

    def slot(self) -> Callable[[_Task], Any]:
        """Return a function that runs tasks in a process of its own."""
        executor = self._new_executor()

        def run(task: _Task) -> Any:
            nonlocal executor
            try:
                working = _begin(executor, task)
            except BrokenExecutor:  # the process died while idle, which is no task's fault
                executor = self._replace(executor)
                working = _begin(executor, task)
            try:
                return working.result()
            except BrokenExecutor as error:
                executor = self._replace(executor)
                raise TaskKilled from error

        return run

    def close(self, deadline: float) -> int:
        """Close the threads as `Pool` does, then end the processes, busy or not."""
        cancelled = super().close(deadline)
        for executor in list(self._executors):
            self._drop(executor)
        return cancelled

    def _new_executor(self) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(list(self._shared))
        executor = ProcessPoolExecutor(
            1,
            mp_context=context,
            initializer=self._prepare,
        )
        self._executors.add(executor)
        return executor

    def _replace(self, executor: ProcessPoolExecutor) -> ProcessPoolExecutor:
        self._drop(executor)
        return self._new_executor()

    def _drop(self, executor: ProcessPoolExecutor) -> None:
        self._executors.discard(executor)
        for process in list((executor._processes or {}).values()):  # noqa: SLF001 - kill_workers() is new in 3.14
            process.kill()
        executor.shutdown(wait=False, cancel_futures=True)


def _begin(executor: ProcessPoolExecutor, task: _Task) -> Future[Any]:
    carrier = task.context.run(outgoing_headers)
    fields = task.context.run(lambda: dict(log_fields.get()))
    return executor.submit(run_in_child, task.function, task.arguments, carrier, fields)


def run_in_child(
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    carrier: Mapping[str, str],
    fields: Mapping[str, str],
) -> Any:
    """Run a task in its process, in the trace of the caller that submitted it."""
    token = context.attach(propagate.extract(carrier))
    kept = log_fields.set(fields)
    try:
        return function(*arguments)
    finally:
        log_fields.reset(kept)
        context.detach(token)
