"""The service's processes: web by default, `admin` for operators."""

from __future__ import annotations

from chassis.process.first_process import begin

if __name__ == "__main__":
    begin()

import os
import sys
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from chassis.process import garbage, interrupts

if __name__ == "__main__":
    garbage.pause()  # until all modules are loaded
    interrupts.hush()

from flask import Flask

from bootstrap import migrate_to_start, open_backing_services
from chassis.backing_services import BackingServices
from chassis.http import admission, headers, metrics, proxies, request_tracing
from chassis.http.authenticator import Authenticator, Principal
from chassis.http.context import About, WebContext, set_context
from chassis.http.cors import allow_origins
from chassis.http.flask_app import PlainFlask
from chassis.http.health import make_readiness
from chassis.http.layers import Layer, wrap
from chassis.http.management import separate
from chassis.http.options import register_options
from chassis.http.problem import register_error_handlers
from chassis.http.rate_limit import RateLimiter
from chassis.http.web import MAX_BODY_BYTES
from chassis.process.start import refuse, say
from chassis.settings.variables import ConfigError
from chassis.signatures import AccessClaims, PageTokens, SuccessorTokens
from chassis.storage.database import DatabaseManager
from config import AppConfig, Environment
from observability import Telemetry, setup_logging
from userservice import SERVICE_NAME
from userservice.discovery.service import Discovery
from userservice.jobs.transfers import Transfers
from userservice.keys.keyring import Keyring
from userservice.resources import API, BLUEPRINTS, PROBLEM_MEMBERS, prepare_metrics
from userservice.tokens.issuer import TokenIssuer
from userservice.users import credentials
from userservice.users.policy import EmailPolicy

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

ROOT = Path(__file__).resolve().parent
USAGE = "usage: python app.py [--debug | worker | admin COMMAND | --version | --help]"


def create_app(
    config: AppConfig | None = None,
    services: BackingServices | None = None,
    telemetry: Telemetry | None = None,
) -> Flask:
    """Build the web application; nothing is connected yet.

    Args:
        config: Read from the environment when omitted.
        services: Attached resources, which the caller closes. Opened from `config` when
            omitted.
        telemetry: Exports traces and metrics; the caller closes it. Opened from `config` when
            omitted.
    """
    config = config or AppConfig.from_env()
    telemetry = telemetry or Telemetry(config)
    services = services or open_backing_services(config)
    app = make_flask()
    set_context(app, make_context(config, services, telemetry))
    register_error_handlers(app, PROBLEM_MEMBERS)
    for blueprint in BLUEPRINTS:
        app.register_blueprint(blueprint)
    register_options(app)
    if config.management_port:
        separate(app, config.management_port)
    allow_origins(app, config.cors_origins)
    prepare_metrics()
    telemetry.instrument(app, services.database.engine)
    wrap(app, layers(config, telemetry.provider).values())
    return app


def layers(config: AppConfig, provider: TracerProvider | None) -> dict[str, Layer]:
    """Return the layers that a request passes on its way to Flask, outermost first."""
    return {
        "trace": partial(request_tracing.layer, provider=provider),
        "proxies": partial(proxies.layer, hops=config.trusted_proxy_hops),
        "headers": headers.layer,
        "admission": partial(admission.layer, limit=config.web_threads),
        "metrics": metrics.layer,
    }


def make_flask() -> Flask:
    """Make an application without routes."""
    app = PlainFlask(SERVICE_NAME, root_path=str(ROOT), static_folder=None)
    app.debug = False  # FLASK_DEBUG would let exceptions pass by the handlers
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    app.url_map.merge_slashes = False  # //users is unknown; it must not redirect to /users
    return app


def make_context(config: AppConfig, services: BackingServices, telemetry: Telemetry) -> WebContext:
    """Make the parts of the web application that serve requests."""
    issuer = make_token_issuer(config)
    keyring = Keyring(services.database, timedelta(seconds=config.key_cache_seconds))
    transfers = Transfers(config.transfers, max_bytes=config.import_max_bytes)
    return WebContext(
        about=About(
            service=SERVICE_NAME,
            version=config.app_version,
            build_id=config.build_id,
            environment=config.environment.value,
        ),
        api=API,
        services=services,
        telemetry=telemetry,
        authenticator=make_authenticator(config, services.database, issuer, keyring),
        rate_limiter=make_rate_limiter(config),
        readiness=make_readiness(
            services,
            required=config.ready_requires,
            timeout=timedelta(seconds=config.ready_timeout_seconds),
        ),
        page_tokens=PageTokens(config.jwt_secret, config.jwt_secret_previous),
        parts={
            TokenIssuer: issuer,
            Keyring: keyring,
            Transfers: transfers,
            Discovery: make_discovery(config),
            EmailPolicy: make_email_policy(config),
        },
    )


def make_authenticator(
    config: AppConfig, database: DatabaseManager, issuer: TokenIssuer, keyring: Keyring
) -> Authenticator:
    """Make the part that turns credentials into callers."""
    return Authenticator(
        api_key=config.api_key,
        access_tokens=issuer.access_tokens,
        find_principal=partial(_find_principal, database),
        find_key=partial(_find_service, keyring),
        is_registration_open=config.registration == "open",
    )


def make_email_policy(config: AppConfig) -> EmailPolicy:
    """Make the rules about addresses; where nothing is set, no e-mail leaves beside welcome."""
    confirms = config.email_verification != "off"
    is_public = bool(config.account_url or config.public_url)
    return EmailPolicy(confirms=confirms, announces=confirms or is_public)


def make_token_issuer(config: AppConfig) -> TokenIssuer:
    """Make the issuer of tokens; all replicas must have the same secret and keys."""
    # Its library takes 70 ms and 10 MiB to load; workers and commands do not need it.
    from chassis.access_tokens import AccessTokens  # noqa: PLC0415

    secrets = (config.jwt_secret, config.jwt_secret_previous) if config.does_secret_hold else ()
    access_tokens = AccessTokens(
        *secrets,
        issuer=SERVICE_NAME,
        lifetime=timedelta(seconds=config.access_token_seconds),
        public=config.public_tokens(),
    )
    return TokenIssuer(
        access_tokens=access_tokens,
        successors=SuccessorTokens(config.jwt_secret),
        refresh_lifetime=timedelta(seconds=config.refresh_token_seconds),
        reuse=timedelta(seconds=config.refresh_reuse_seconds),
    )


def make_discovery(config: AppConfig) -> Discovery:
    """Make the documents by which others verify tokens."""
    return Discovery(config.public_tokens(), timedelta(seconds=config.jwks_max_age_seconds))


def make_rate_limiter(config: AppConfig) -> RateLimiter | None:
    """Make the rate limiter; return None when rate limits are off."""
    if not config.rate_limit_enabled:
        return None
    return RateLimiter(
        {
            "registration": config.rate_limit_registration,
            "login": config.rate_limit_login,
            "password": config.rate_limit_password,
            "recovery": config.rate_limit_recovery,
            "recovery_client": config.rate_limit_recovery_client,
            "export": config.rate_limit_export,
        },
        redis_url=config.redis_url,
        timeout=timedelta(seconds=config.redis_timeout_seconds),
    )


def _find_principal(database: DatabaseManager, claims: AccessClaims) -> Principal | None:
    is_superuser = credentials.find_is_superuser(database, claims)
    if is_superuser is None:
        return None
    return Principal(claims.subject, is_superuser, claims.session_id)


def _find_service(keyring: Keyring, api_key: str) -> Principal | None:
    key = keyring.find(api_key)
    if key is None:
        return None
    return Principal(user_id=None, is_administrator=False, key_id=key.id, scopes=key.scopes)


def main(arguments: list[str]) -> None:
    """Start the process that the arguments name; exit with status 2 if they name none."""
    if arguments[:1] != ["admin"]:
        interrupts.listen()
    match arguments:
        case []:
            serve()
        case ["--debug"]:
            serve_for_debugging()
        case ["worker"]:
            work()
        case ["admin", *rest]:
            from admin import operate  # noqa: PLC0415 - a web process needs no command line

            operate(rest)
        case ["-h" | "--help"]:
            say(sys.stdout, f"{USAGE}\n")
        case ["--version"]:
            say(sys.stdout, f"{SERVICE_NAME} {os.environ.get('APP_VERSION') or 'unknown'}\n")
        case _:
            refuse(USAGE)


def serve() -> None:
    """Run the production web process: gunicorn with this project's settings."""
    # gunicorn reads this variable while it is imported, and would fail without naming it.
    os.environ["WEB_CONCURRENCY"] = str(_read_config().web_concurrency)
    from gunicorn.app.wsgiapp import run  # noqa: PLC0415 - tests import this file without it

    sys.argv = ["gunicorn", "--config", str(ROOT / "gunicorn.conf.py")]
    run()


def work() -> None:
    """Run the background worker."""
    from workers import run_worker  # noqa: PLC0415 - a web process needs no worker

    run_worker(_read_config())


def serve_for_debugging() -> None:
    """Run Flask's development server, with its reloader and debugger, on this machine only."""
    from workers import deliver_beside  # noqa: PLC0415 - see `work`

    config = _read_config()
    if config.environment is Environment.PRODUCTION:
        refuse("--debug is refused in production: its debugger runs code for whoever can reach it")
    config = replace(config, log_format="text", management_port=0)  # this server has one port
    setup_logging(config, sys.stdout)
    services = open_backing_services(config)
    migrate_to_start(services.database)
    deliver_beside(config, services)
    create_app(config, services).run(host="127.0.0.1", port=config.port, debug=True)


def _read_config() -> AppConfig:
    try:
        return AppConfig.from_env()
    except ConfigError as error:
        refuse(str(error))


if __name__ == "__main__":
    garbage.resume()
    main(sys.argv[1:])
