"""The background process, which delivers messages until it is told to stop."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from types import FrameType
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

from bootstrap import open_backing_services
from chassis.background.delivery import Delivery
from chassis.background.dispatch import Dispatcher, DramatiqDispatcher, LocalDispatcher
from chassis.background.pools import Pool
from chassis.background.processes import ProcessPool
from chassis.backing_services import BackingServices
from chassis.http.entrance import hosts
from chassis.process import garbage, stacks
from chassis.process.reactions import beside
from chassis.process.start import require_address
from chassis.telemetry import instruments, log_level
from chassis.telemetry.statements import trace_statements
from config import AppConfig, Environment
from observability import Telemetry, exporting_modules, follow_level, setup_logging
from userservice.resources import (
    ABANDONED_HANDLERS,
    EVENT_HANDLERS,
    EVENT_READERS,
    prepare_metrics,
)

logger = logging.getLogger(__name__)

# Number of tasks that may wait for each running one.
QUEUED_PER_SLOT = 16
# Longest time for which a client of the status port may say nothing.
STATUS_READ_SECONDS = 5
# Of several signals at a time one may be taken in by another thread, which does not wake up the
# main thread; that runs the handler after this time.
HEAR_SECONDS = 1.0
# Longest pause of the watch after it failed; usually it looks once a second.
WATCH_MAX_SECONDS = 60.0


class WorkerManager:
    """The pools of one process: processes for computing, threads for waiting.

    The first task starts them.

    Args:
        config: WORKER_CONCURRENCY processes, four times as many threads.
    """

    def __init__(self, config: AppConfig) -> None:
        size = config.worker_concurrency
        self._cpu = ProcessPool(
            "cpu",
            size=size,
            capacity=size * QUEUED_PER_SLOT,
            prepare=partial(_prepare_child, config),
            shared=(__name__, *exporting_modules()),
        )
        self._io = Pool("io", size=size * 4, capacity=size * 4 * QUEUED_PER_SLOT)

    def submit_cpu_task(self, function: Callable[..., Any], /, *arguments: Any) -> Future[Any]:
        """Run a module-level function with plain arguments in another process.

        Raises:
            PoolFull: too many tasks wait.
        """
        return self._cpu.submit(function, *arguments)

    def submit_io_task(self, function: Callable[..., Any], /, *arguments: Any) -> Future[Any]:
        """Run a function in another thread; for functions that mostly wait.

        Raises:
            PoolFull: too many tasks wait.
        """
        return self._io.submit(function, *arguments)

    def shutdown(self, deadline: timedelta) -> int:
        """Wait for the tasks, for a bounded time; return the number of cancelled ones."""
        end = time.monotonic() + deadline.total_seconds()
        return self._io.close(end) + self._cpu.close(end)


def run_worker(config: AppConfig) -> None:
    """Deliver messages until SIGTERM or SIGINT; a second signal ends the process at once."""
    stacks.write_on_signal()
    instruments.count_alone()
    setup_logging(config, sys.stdout)
    tasks = WorkerManager(config)
    services = open_backing_services(config, tasks)
    telemetry = Telemetry(config)
    if telemetry.provider is not None:
        trace_statements(services.database.engine)
    prepare_metrics()
    delivery = make_delivery(config, services)
    instruments.set_pool(**services.database.pool_usage())
    _stop_on_signals(delivery, config.stop_budget.worker_limit_seconds)
    _switch_on_signal(config)
    threading.Thread(target=_watch, args=(services,), name="watch", daemon=True).start()
    if config.worker_metrics_port:
        serve_worker_status(config.worker_metrics_port, delivery.is_alive, config.bind_address)
    logger.info("Worker started", extra={"concurrency": config.worker_concurrency * 4})
    # In another thread: this one has to handle signals, so it must not wait in a driver.
    ended = ThreadPoolExecutor(1, "loop").submit(
        _deliver, delivery, config.stop_budget.finish_seconds
    )
    try:
        handed_back = _await(ended)
        with _logged("pools"):
            tasks.shutdown(timedelta(0))  # their messages are settled or handed back
        for name, close in (("services", services.close), ("telemetry", telemetry.close)):
            with _logged(name):
                close()
    except Exception:
        logger.exception("Worker broke")
        os._exit(1)
    if handed_back:
        os._exit(0)  # threads that hang in a call must not keep the process


def _await(ended: Future[int]) -> int:
    """Return a result for which the main thread waits, and goes on to handle signals."""
    while not ended.done():
        wait([ended], HEAR_SECONDS)
    return ended.result()


def _deliver(delivery: Delivery, finish_seconds: float) -> int:
    delivery.run()
    with _logged("delivery") as details:
        details["handed_back"] = delivery.close(finish_seconds)
    return details["handed_back"]


@contextmanager
def _logged(phase: str) -> Iterator[dict[str, int]]:
    """Log how long a phase of the stop took, with the fields that the block adds."""
    started_at = time.monotonic()
    details: dict[str, int] = {}
    yield details
    seconds = round(time.monotonic() - started_at, 3)
    logger.info("Stopped: %s", phase, extra={"seconds": seconds, **details})


def make_delivery(config: AppConfig, services: BackingServices) -> Delivery:
    """Make the delivery loop of this process; it uses threads, because delivering is waiting."""
    return Delivery(
        services,
        EVENT_HANDLERS,
        dispatcher=make_dispatcher(config),
        lease=timedelta(seconds=config.outbox_lease_seconds),
        abandoned=ABANDONED_HANDLERS,
        readers=EVENT_READERS,
    )


def make_dispatcher(config: AppConfig) -> Dispatcher:
    """Make the dispatcher that TASK_ENGINE names."""
    concurrency = config.worker_concurrency * 4
    if config.task_engine == "dramatiq":
        return DramatiqDispatcher(config.redis_url, concurrency)
    return LocalDispatcher(concurrency)


def deliver_beside(config: AppConfig, services: BackingServices) -> None:
    """Deliver from a thread of a development web process, so that one process is enough."""
    is_embedded = services.database.is_sqlite and config.environment is Environment.DEVELOPMENT
    if is_embedded and config.deliver_in_web:
        delivery = make_delivery(config, services)
        threading.Thread(target=delivery.run, name="delivery", daemon=True).start()


def _prepare_child(config: AppConfig) -> None:
    """Set up a process of the pool; Ctrl-C at a terminal is for its parent to handle."""
    for number in (signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    stacks.write_on_signal()
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    setup_logging(config, sys.stdout)
    Telemetry(config)
    garbage.spare_loaded()


def _end_with_parent() -> None:
    """End this process when the one that it works for does, even by SIGKILL."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def serve_worker_status(port: int, is_alive: Callable[[], bool], address: str = "") -> None:
    """Answer /metrics, and /health while the loop makes turns, from threads of this process.

    Args:
        port: TCP port.
        is_alive: Whether the loop makes turns.
        address: BIND_ADDRESS; empty: all.
    """
    metrics = make_wsgi_app()

    def answer(environ: Any, start_response: Any) -> Any:
        if environ["PATH_INFO"] != "/health":
            return metrics(environ, start_response)
        status = "200 OK" if is_alive() else "503 Service Unavailable"
        start_response(status, [("Content-Type", "text/plain")])
        return [status.encode()]

    setting = "BIND_ADDRESS, WORKER_METRICS_PORT" if address else "WORKER_METRICS_PORT"
    for host in [address] if address else hosts():
        require_address(host, port, setting=setting)
        family = _StatusServer6 if ":" in host else ThreadingWSGIServer
        server = make_server(host, port, answer, family, _QuietHandler)
        threading.Thread(target=server.serve_forever, name="status", daemon=True).start()


class _StatusServer6(ThreadingWSGIServer):
    address_family = socket.AF_INET6


class _QuietHandler(WSGIRequestHandler):
    timeout = STATUS_READ_SECONDS  # each connection has a thread

    def log_message(self, *_arguments: object) -> None:
        """Log no scrapes."""


def _watch(services: BackingServices) -> None:
    """Watch the pool from another thread, while the loop may be waiting for the database."""
    failures = 0
    while True:
        time.sleep(min(2.0**failures, WATCH_MAX_SECONDS))
        try:
            services.database.cut_stalled()
            instruments.set_pool(**services.database.pool_usage())
            failures = 0
        except Exception:
            logger.exception("Watch broke; it goes on")
            failures += 1


def _stop_on_signals(delivery: Delivery, limit_seconds: float) -> None:
    end_late = beside("limit", partial(_end_after, limit_seconds))

    def stop(number: int, _frame: FrameType | None) -> None:
        if delivery.is_stopping:
            os._exit(128 + number)
        delivery.stop()
        end_late()

    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, stop)


def _end_after(limit_seconds: float) -> None:
    """End a stop that waits for longer than the platform does, as for a frozen database."""
    time.sleep(limit_seconds)
    os._exit(1)


def _switch_on_signal(config: AppConfig) -> None:
    """Switch the log level on SIGUSR1."""
    follow = beside("log level", partial(follow_level, config))

    def switch(_number: int, _frame: FrameType | None) -> None:
        log_level.switch()
        follow()

    signal.signal(signal.SIGUSR1, switch)
