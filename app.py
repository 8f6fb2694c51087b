"""The service's processes: web by default, `admin` for operators."""

from __future__ import annotations

from chassis.first_process import hear_sigterm

if __name__ == "__main__":
    hear_sigterm()

import gc
import sys
from dataclasses import replace
from datetime import timedelta
from functools import lru_cache, partial
from pathlib import Path
from threading import BoundedSemaphore
from typing import NoReturn
from uuid import UUID

if __name__ == "__main__":
    gc.disable()  # looking for garbage in what is imported, and stays, is a tenth of the start

from flask import Flask

from bootstrap import open_backing_services
from chassis.http.proxies import TrustedProxies
from config import AppConfig, ConfigError, Environment
from observability import Telemetry, setup_logging
from userservice import SERVICE_NAME, migrations
from userservice.admission import limit_in_flight
from userservice.auth import Authenticator, Principal
from userservice.backing_services import BackingServices
from userservice.database import DatabaseManager
from userservice.health import make_readiness
from userservice.metrics import register_request_telemetry
from userservice.problem import register_error_handlers
from userservice.rate_limit import RateLimiter
from userservice.resources import BLUEPRINTS
from userservice.security import AccessTokens, PageTokens
from userservice.tokens.service import TokenIssuer
from userservice.users import service as users
from userservice.web import MAX_BODY_BYTES, register_response_headers

EXPOSED_HEADERS = [
    *("ETag", "Link", "Location", "RateLimit", "RateLimit-Policy", "Retry-After", "X-Request-ID"),
]
ROOT = Path(__file__).resolve().parent


def create_app(
    config: AppConfig | None = None,
    services: BackingServices | None = None,
    telemetry: Telemetry | None = None,
) -> Flask:
    """Build the web application; nothing is connected yet.

    Args:
        config: Read from the environment when omitted.
        services: Attached resources, closed by whoever opened them. Opened from `config`
            when omitted.
        telemetry: What exports traces and metrics, closed by whoever opened it. Opened from
            `config` when omitted.
    """
    config = config or AppConfig.from_env()
    telemetry = telemetry or Telemetry(config)
    services = services or open_backing_services(config)
    app = Flask(__name__, static_folder=None)
    app.config.update(
        SERVICE_NAME=SERVICE_NAME,
        APP_VERSION=config.app_version,
        BUILD_ID=config.build_id,
        ENVIRONMENT=config.environment.value,
        MAX_CONTENT_LENGTH=MAX_BODY_BYTES,
        IMPORT_MAX_BYTES=config.import_max_bytes,
    )
    # Flask asks each function, on each request, whether it is a coroutine; once is enough.
    # Bounded, because `after_this_request` brings a new function each time.
    app.ensure_sync = lru_cache(maxsize=256)(app.ensure_sync)  # type: ignore[method-assign]
    app.url_map.merge_slashes = False  # //users is no address of ours, and no reason to redirect
    app.extensions["backing_services"] = services
    app.extensions["telemetry"] = telemetry
    app.extensions["page_tokens"] = PageTokens(config.jwt_secret, config.jwt_secret_previous)
    app.extensions["token_issuer"] = make_token_issuer(config)
    app.extensions["authenticator"] = Authenticator(
        api_key=config.api_key,
        access_tokens=app.extensions["token_issuer"].access_tokens,
        find_principal=partial(_find_principal, services.database),
        is_registration_open=config.registration == "open",
    )
    app.extensions["rate_limiter"] = make_rate_limiter(config)
    app.extensions["transfers"] = BoundedSemaphore(config.transfers)
    app.extensions["readiness"] = make_readiness(
        services,
        required=config.ready_requires,
        timeout=timedelta(seconds=config.ready_timeout_seconds),
    )
    register_request_telemetry(app)
    limit_in_flight(app, config.web_threads)
    register_error_handlers(app)
    register_response_headers(app)
    for blueprint in BLUEPRINTS:
        app.register_blueprint(blueprint)
    if config.trusted_proxy_hops:
        hops = config.trusted_proxy_hops
        app.wsgi_app = TrustedProxies(app.wsgi_app, hops)  # type: ignore[method-assign]
    if config.cors_origins:
        from flask_cors import CORS  # noqa: PLC0415 - rarely configured

        CORS(app, origins=sorted(config.cors_origins), expose_headers=EXPOSED_HEADERS)
    telemetry.instrument(app, services.database.engine)
    return app


def make_token_issuer(config: AppConfig) -> TokenIssuer:
    """Say which tokens are granted; all replicas must agree on the secret."""
    access_tokens = AccessTokens(
        config.jwt_secret,
        config.jwt_secret_previous,
        issuer=SERVICE_NAME,
        lifetime=timedelta(seconds=config.access_token_seconds),
    )
    return TokenIssuer(
        access_tokens=access_tokens,
        refresh_lifetime=timedelta(seconds=config.refresh_token_seconds),
    )


def make_rate_limiter(config: AppConfig) -> RateLimiter | None:
    """Say how often clients may do what; None when nothing is limited."""
    if not config.rate_limit_enabled:
        return None
    return RateLimiter(
        {"registration": config.rate_limit_registration, "login": config.rate_limit_login},
        redis_url=config.redis_url,
        timeout=timedelta(seconds=config.redis_timeout_seconds),
    )


def _find_principal(database: DatabaseManager, user_id: UUID) -> Principal | None:
    is_superuser = users.find_is_superuser(database, user_id)
    return None if is_superuser is None else Principal(user_id, is_superuser)


def main(arguments: list[str]) -> None:
    """Start the process that the arguments name; exit status 2 when they make no sense."""
    match arguments:
        case []:
            serve()
        case ["--debug"]:
            serve_for_debugging()
        case ["worker"]:
            work()
        case ["admin", *rest]:
            from admin import cli  # noqa: PLC0415 - a web process needs no command line

            cli.main(rest, prog_name="app.py admin")
        case _:
            _refuse("usage: python app.py [--debug | worker | admin COMMAND]")


def serve() -> None:
    """Be the production web process: gunicorn with this project's settings."""
    from gunicorn.app.wsgiapp import run  # noqa: PLC0415 - tests import this file without it

    sys.argv = ["gunicorn", "--config", str(ROOT / "gunicorn.conf.py")]
    run()


def work() -> None:
    """Be the background worker."""
    from workers import run_worker  # noqa: PLC0415 - a web process needs no worker

    run_worker(_read_config())


def serve_for_debugging() -> None:
    """Be Flask's development server, with its reloader and debugger, on this machine only."""
    from workers import deliver_beside  # noqa: PLC0415 - see `work`

    config = _read_config()
    if config.environment is Environment.PRODUCTION:
        _refuse("--debug is refused in production: its debugger runs code for whoever can reach it")
    config = replace(config, log_format="text")
    setup_logging(config, sys.stdout)
    services = open_backing_services(config)
    migrations.upgrade(services.database)
    deliver_beside(config, services)
    create_app(config, services).run(host="127.0.0.1", port=config.port, debug=True)


def _read_config() -> AppConfig:
    try:
        return AppConfig.from_env()
    except ConfigError as error:
        _refuse(str(error))


def _refuse(reason: str) -> NoReturn:
    sys.stderr.write(f"{reason}\n")
    sys.exit(2)


if __name__ == "__main__":
    gc.freeze()
    gc.enable()
    main(sys.argv[1:])
