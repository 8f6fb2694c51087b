"""The interface of a process's pools, and a substitute for processes without pools."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Protocol


class TaskRunner(Protocol):
    """The part of a worker manager that package code uses."""

    def submit_cpu_task(self, function: Callable[..., Any], /, *arguments: Any) -> Future[Any]:
        """Run a module-level function with plain arguments in another process."""

    def submit_io_task(self, function: Callable[..., Any], /, *arguments: Any) -> Future[Any]:
        """Run a function in another thread; for functions that mostly wait."""


class InlineTasks:
    """Runs tasks in the thread that submits them, for processes that have no pools."""

    def submit_cpu_task(self, function: Callable[..., Any], /, *arguments: Any) -> Future[Any]:
        """Run a function now."""
        future: Future[Any] = Future()
        try:
            future.set_result(function(*arguments))
        except Exception as error:  # noqa: BLE001 - the result's reader gets it
            future.set_exception(error)
        return future

    submit_io_task = submit_cpu_task
