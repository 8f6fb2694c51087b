"""A bounded pool of processes, for tasks that compute."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from typing import Any

from opentelemetry import context, propagate

from chassis.background.pools import Pool, Task
from chassis.errors import AppError
from chassis.process.forks import hold_diagnosis
from chassis.telemetry.log_fields import log_fields
from chassis.telemetry.propagation import outgoing_headers


class TaskKilled(AppError):
    """The process died while it worked on the task."""

    code = "task_killed"
    title = "The task ended its process"


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

    def slot(self) -> Callable[[Task], Any]:
        """Return a function that runs tasks in a process of its own."""
        hold_diagnosis()  # for the fork server, which this thread may start, and for processes
        executor = self._new_executor()

        def run(task: Task) -> Any:
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


def _begin(executor: ProcessPoolExecutor, task: Task) -> Future[Any]:
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
