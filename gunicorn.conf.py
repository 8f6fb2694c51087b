"""The production web process: `gunicorn` without arguments, or `python app.py`."""

import json
import sys
from http import HTTPStatus
from pathlib import Path
from typing import Any
from uuid import uuid4

from gunicorn import glogging, util

from bootstrap import open_database
from config import AppConfig, ConfigError, Environment
from observability import setup_logging
from userservice import migrations
from userservice.problem import PROBLEM_JSON, document

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


def write_problem(sock: Any, status: int, reason: str, _message: str) -> None:
    """Refuse what never became a request; gunicorn would answer in HTML and repeat the input."""
    request_id = uuid4().hex
    body = json.dumps(
        document(
            status=status,
            code=HTTPStatus(status).name.lower(),
            title=reason,
            detail=reason,
            instance="",
            request_id=request_id,
        )
    )
    head = (
        f"HTTP/1.1 {status} {reason}\r\n"
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
worker_class = "gthread"
workers = app_config.web_concurrency
threads = app_config.web_threads
keepalive = 75  # longer than common load balancers keep theirs, so that they close first
graceful_timeout = 20
logger_class = Logger
# A heartbeat file on disk stalls a worker when the disk does.
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - see above
control_socket_disable = True  # it would write to $HOME, which is read-only in the container
