"""The production web process: `gunicorn` without arguments, or `python app.py`."""

from chassis.process.first_process import begin

if __name__ != "__main__":  # read by gunicorn, whose own imports have taken a while
    begin()

import importlib
import os
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from gunicorn import glogging, systemd

from bootstrap import migrate_to_start, open_database, welcome
from chassis.http import balance
from chassis.http.context import context_of
from chassis.http.entrance import addresses
from chassis.http.metrics import count_refusal
from chassis.http.problem import refusal
from chassis.http.request import Limits
from chassis.http.web import MAX_BODY_BYTES
from chassis.http.worker import Worker
from chassis.process import forks, garbage, pinning, stacks
from chassis.process.reactions import Pending
from chassis.process.start import greet, refuse, require_address
from chassis.settings.variables import ConfigError
from chassis.telemetry import instruments, log_level, shared_counts
from config import AppConfig, Environment
from observability import exporting_modules, follow_level, setup_logging
from workers import deliver_beside

garbage.pause()  # until `pre_fork`; gunicorn reads this file again on a reload

try:
    app_config = AppConfig.from_env()
except ConfigError as error:
    refuse(str(error))


are_counts_shared = shared_counts.share(app_config.web_concurrency)


class Logger(glogging.Logger):
    """Writes gunicorn's own log lines in the format and to the stream of all others."""

    def setup(self, cfg: Any) -> None:
        """Replace gunicorn's handlers."""
        super().setup(cfg)
        setup_logging(app_config, sys.stdout)
        self.error_log.handlers.clear()
        self.error_log.propagate = True


SPARE_THREADS = 4


def on_starting(server: Any) -> None:
    """Prepare the start; one that is refused leaves no files of metrics behind."""
    try:
        require_addresses(server)
        prepare(server)
    except SystemExit:
        on_exit(server)  # gunicorn calls it only once it listens
        raise


def prepare(server: Any) -> None:
    """Migrate a development database; elsewhere migration is a step of the deployment."""
    if not are_counts_shared:
        server.log.warning("No room for shared counts: /metrics shows one worker's at a time")
    Worker.check_config(server.cfg, server.log)  # gunicorn asks later, once it listens
    # Modules are imported once, before the fork, and shared by all workers. Each worker makes its
    # connections and threads after the fork.
    for name in ("app", "chassis.access_tokens", *exporting_modules()):
        importlib.import_module(name)
    database = open_database(app_config)  # imports the driver, but does not connect
    if app_config.environment is Environment.DEVELOPMENT:
        migrate_to_start(database)
    database.close()
    garbage.spare_loaded()


def require_addresses(server: Any) -> None:
    """Refuse in one line to start on a port that is taken; gunicorn would write eleven.

    The sockets that a master has from systemd are bound already.
    """
    if systemd.listen_fds(unset_environment=False):
        return
    for address in server.cfg.address:
        if isinstance(address, tuple):  # else the path or the descriptor of a socket
            is_management = address[1] == app_config.management_port
            port = "MANAGEMENT_PORT" if is_management else "PORT"
            setting = f"BIND_ADDRESS, {port}" if app_config.bind_address else port
            require_address(*address, setting=setting)


def pre_fork(server: Any, worker: Any) -> None:
    """Keep the collector off shared objects, whose pages it would copy; choose slot and CPU."""
    shared_counts.assign(worker.age)
    garbage.prepare_fork()
    taken = [getattr(each, "cpu", None) for each in server.WORKERS.values()]
    worker.cpu = pinning.choose_cpu(app_config.web_pin, server.num_workers, taken)
    forks.hold_signals()  # until `Worker.init_signals`


def post_fork(_server: Any, worker: Any) -> None:
    """Keep the worker on its CPU, before it has threads; count from here on in its own slot."""
    pinning.pin(worker.cpu)
    shared_counts.enter(worker.age)


def on_exit(_server: Any) -> None:
    """Remove the files of metrics."""
    shared_counts.close()


def post_worker_init(worker: Any) -> None:
    """Let the worker's heartbeat measure the pool: a gauge on each request would cost more."""
    context = context_of(worker.wsgi)
    services = context.services

    def beat() -> None:
        services.database.cut_stalled()
        instruments.set_pool(**services.database.pool_usage())

    worker.heartbeat = beat
    instruments.set_pool(**services.database.pool_usage())
    worker.on_drain = context.readiness.stop
    worker.on_level = partial(follow_level, app_config)
    deliver_beside(app_config, services)


def child_exit(_server: Any, worker: Any) -> None:
    """Forget a worker that has exited; its counters stay."""
    Worker.forget(worker.age)
    shared_counts.release(worker.age)


def reload_if_configured(server: Any, reload: Callable[[], None]) -> None:
    """Reload, unless the new configuration would end the master: then the old workers go on."""
    try:
        AppConfig.from_env()
    except ConfigError as error:
        server.log.error("Reload refused, the old workers go on: %s", error)  # noqa: TRY400 - the sentence says it all
    else:
        reload()


def switch_level(tell_workers: Callable[[], None]) -> None:
    """Switch the log level of all processes."""
    log_level.switch()
    follow_level(app_config)
    tell_workers()


def write_stacks(server: Any) -> None:
    """Write the stacks of all processes."""
    stacks.write_all([*server.WORKERS], server.kill_worker)


def when_ready(server: Any) -> None:
    """Let a second signal end the master, and with it the workers, at once; guard reloads.

    SIGUSR1 and SIGUSR2 get other meanings than gunicorn's. There are no log files to open again. A
    second master that replaces the first would end with it where that is a container's process 1.
    """
    if app_config.environment is Environment.DEVELOPMENT:
        greet(sys.stdout, welcome(app_config))
    server.handle_hup = partial(reload_if_configured, server, server.handle_hup)
    levels = Pending(server.signal, partial(switch_level, server.handle_usr1))
    traces = Pending(server.signal, partial(write_stacks, server))
    server.handle_usr1, server.handle_usr2 = levels.handle, traces.handle
    signal.signal(signal.SIGUSR1, levels.hear)
    signal.signal(signal.SIGUSR2, traces.hear)
    first_signal: Any = signal.getsignal(signal.SIGTERM)

    def stop(number: int, frame: Any) -> None:
        balance.announce_stop()  # tells workers that all stop, and not one of them is replaced

        def stop_now(_number: int, _frame: Any) -> None:
            server.kill_workers(signal.SIGKILL)
            os._exit(1)

        signal.signal(number, stop_now)
        first_signal(number, frame)

    signal.signal(signal.SIGTERM, stop)


def worker_exit(_server: Any, worker: Any) -> None:
    """Close the worker's resources, telemetry last."""
    app = getattr(worker, "wsgi", None)  # absent until the application is loaded
    if app is None or worker.pid != os.getpid():
        return
    context = context_of(app)
    for name, part in (("backing_services", context.services), ("telemetry", context.telemetry)):
        started_at = time.monotonic()
        part.close()
        worker.log.info("Stopped: %s in %.3f s", name, time.monotonic() - started_at)
    if worker.is_stopping:
        os._exit(0)  # the interpreter would wait for threads whose time is over


wsgi_app = "app:create_app()"
chdir = str(Path(__file__).resolve().parent)
bind = [
    address
    for port in filter(None, (app_config.port, app_config.management_port))
    for address in addresses(port, app_config.bind_address)
]
Worker.request_read_seconds = app_config.request_read_seconds
Worker.drain_seconds = app_config.stop_budget.drain_seconds
Worker.finish_seconds = app_config.stop_budget.finish_seconds
Worker.keepalive_seconds = app_config.keepalive_seconds
Worker.management_port = app_config.management_port
Worker.limits = Limits(body=MAX_BODY_BYTES)
Worker.refusal = staticmethod(refusal)
Worker.count_refusal = staticmethod(count_refusal)
worker_class = Worker
workers = app_config.web_concurrency
# Spare threads answer probes, and refuse surplus requests, while all others are at work.
threads = app_config.web_threads + SPARE_THREADS
graceful_timeout = app_config.stop_budget.master_limit_seconds
logger_class = Logger
# A heartbeat file on disk stalls a worker when the disk does.
worker_tmp_dir = "/dev/shm" if os.access("/dev/shm", os.W_OK | os.X_OK) else None  # noqa: S108 - see above
control_socket_disable = True  # it would write to $HOME, which is read-only in the container
