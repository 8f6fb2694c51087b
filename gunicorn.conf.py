"""The production web process: `gunicorn` without arguments, or `python app.py`."""

import json
import sys
from pathlib import Path
from types import FrameType
from typing import Any
from uuid import uuid4

from gunicorn import glogging, util
from gunicorn.workers.gthread import ThreadWorker

from bootstrap import open_database
from config import AppConfig, ConfigError, Environment
from observability import setup_logging
from userservice import migrations
from userservice.problem import PROBLEM_JSON, document, names_of

try:
    app_config = AppConfig.from_env()
except ConfigError as error:
    sys.stderr.write(f"{error}\n")
    sys.exit(2)


class Logger(glogging.Logger):
    """gunicorn's own lines leave like all others: one format, one stream."""

    def setup(self, cfg: Any) -> None:
        """Take over from gunicorn's handlers."""
        super().setup(cfg)
        setup_logging(app_config, sys.stdout)
        self.error_log.handlers.clear()
        self.error_log.propagate = True


class Worker(ThreadWorker):
    """gunicorn's own, but for a deadlock."""

    def handle_quit(self, sig: int, frame: FrameType | None) -> None:
        """Quit from the main loop, within the second; Ctrl-C ends here as well.

        ThreadWorker closes its thread pool right here. When the signal comes while the main
        loop is handing a request to that pool, both want the same lock, for ever.
        """
        self.method_queue.defer(super().handle_quit, sig, frame)


def write_problem(sock: Any, status: int, _reason: str, _message: str) -> None:
    """Refuse what never became a request; gunicorn would answer in HTML and repeat the input."""
    title, code = names_of(status)  # gunicorn says "Bad Request" for more than that
    request_id = uuid4().hex
    body = json.dumps(
        document(
            status=status,
            code=code,
            title=title,
            detail=title,
            instance="",
            request_id=request_id,
        )
    )
    head = (
        f"HTTP/1.1 {status} {title}\r\n"
        "Connection: close\r\n"
        f"Content-Type: {PROBLEM_JSON}\r\n"
        f"X-Request-ID: {request_id}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    util.write_nonblock(sock, (head + body).encode("ascii"))


util.write_error = write_problem  # gunicorn has no setting for it


def on_starting(_server: Any) -> None:
    """Bring a development database up to date; elsewhere that is a step of the deployment."""
    if app_config.environment is Environment.DEVELOPMENT:
        database = open_database(app_config)
        migrations.upgrade(database)
        database.close()


wsgi_app = "app:create_app()"
chdir = str(Path(__file__).resolve().parent)
bind = f"0.0.0.0:{app_config.port}"
worker_class = Worker
workers = app_config.web_concurrency
threads = app_config.web_threads
keepalive = 75  # longer than common load balancers keep theirs, so that they close first
graceful_timeout = 20
logger_class = Logger
# A heartbeat file on disk stalls a worker when the disk does.
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - see above
control_socket_disable = True  # it would write to $HOME, which is read-only in the container
