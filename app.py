"""The service's processes: web by default, `admin` for operators."""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import NoReturn

from flask import Flask

from bootstrap import open_backing_services
from config import AppConfig, ConfigError, Environment
from observability import setup_logging
from userservice import migrations
from userservice.backing_services import BackingServices
from userservice.health import make_readiness
from userservice.problem import register_error_handlers
from userservice.resources import BLUEPRINTS
from userservice.security import PageTokens
from userservice.web import MAX_BODY_BYTES, register_response_headers

SERVICE_NAME = "cloudnative-user-api"
ROOT = Path(__file__).resolve().parent


def create_app(config: AppConfig | None = None, services: BackingServices | None = None) -> Flask:
    """Build the web application; nothing is started or connected.

    Args:
        config: Read from the environment when omitted.
        services: Attached resources, closed by whoever opened them. Opened from `config`
            when omitted.
    """
    config = config or AppConfig.from_env()
    services = services or open_backing_services(config)
    app = Flask(__name__, static_folder=None)
    app.config.update(
        SERVICE_NAME=SERVICE_NAME,
        APP_VERSION=config.app_version,
        BUILD_ID=config.build_id,
        ENVIRONMENT=config.environment.value,
        API_KEY=config.api_key,
        MAX_CONTENT_LENGTH=MAX_BODY_BYTES,
    )
    app.url_map.merge_slashes = False  # //users is no address of ours, and no reason to redirect
    app.extensions["backing_services"] = services
    app.extensions["page_tokens"] = PageTokens(config.jwt_secret, config.jwt_secret_previous)
    app.extensions["readiness"] = make_readiness(
        services,
        required=config.ready_requires,
        timeout=timedelta(seconds=config.ready_timeout_seconds),
    )
    register_error_handlers(app)
    register_response_headers(app)
    for blueprint in BLUEPRINTS:
        app.register_blueprint(blueprint)
    return app


def main(arguments: list[str]) -> None:
    """Start the process that the arguments name; exit status 2 when they make no sense."""
    match arguments:
        case []:
            serve()
        case ["--debug"]:
            serve_for_debugging()
        case ["admin", *rest]:
            from admin import cli  # noqa: PLC0415 - a web process needs no command line

            cli.main(rest, prog_name="app.py admin")
        case _:
            _refuse("usage: python app.py [--debug | admin COMMAND]")


def serve() -> None:
    """Be the production web process: gunicorn with this project's settings."""
    from gunicorn.app.wsgiapp import run  # noqa: PLC0415 - tests import this file without it

    sys.argv = ["gunicorn", "--config", str(ROOT / "gunicorn.conf.py")]
    run()


def serve_for_debugging() -> None:
    """Be Flask's development server, with its reloader and debugger, on this machine only."""
    try:
        config = AppConfig.from_env()
    except ConfigError as error:
        _refuse(str(error))
    if config.environment is Environment.PRODUCTION:
        _refuse("--debug is refused in production: its debugger runs code for whoever can reach it")
    config = replace(config, log_format="text")
    setup_logging(config, sys.stdout)
    services = open_backing_services(config)
    migrations.upgrade(services.database)
    create_app(config, services).run(host="127.0.0.1", port=config.port, debug=True)


def _refuse(reason: str) -> NoReturn:
    sys.stderr.write(f"{reason}\n")
    sys.exit(2)


if __name__ == "__main__":
    main(sys.argv[1:])
