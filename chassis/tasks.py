"""What may be asked of a process's pools, and what stands in where a process has none."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Protocol


class TaskRunner(Protocol):
    """What package code needs of a worker manager."""

    def submit_cpu_task(self, function: Callable[..., Any], /, *arguments: Any) -> Future[Any]:
        """Run a module-level function with plain arguments in another process."""

    def submit_io_task(self, function: Callable[..., Any], /, *arguments: Any) -> Future[Any]:
        """Run a function that mostly waits in another thread."""


class InlineTasks:
    """Runs tasks where they are submitted, for processes that have no pools."""

    def submit_cpu_task(self, function: Callable[..., Any], /, *arguments: Any) -> Future[Any]:
        """Run a function now."""
        future: Future[Any] = Future()
        try:
            future.set_result(function(*arguments))
        except Exception as error:  # noqa: BLE001 - it belongs to whoever asks for the result
            future.set_exception(error)
        return future

    submit_io_task = submit_cpu_task
