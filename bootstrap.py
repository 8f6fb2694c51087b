"""Wiring: all processes open their attached resources here."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

from chassis.backing_services import BackingServices
from chassis.clients.http_client import HttpClient
from chassis.clients.mail_templates import MailTemplates
from chassis.clients.mailer import HttpMailer, LoggingMailer, Mailer
from chassis.clients.redis import RedisManager
from chassis.clients.resilience import CircuitBreaker
from chassis.clients.terminal_mailer import TerminalMailer
from chassis.errors import AppError
from chassis.links import Links
from chassis.process.start import FAILED, refuse
from chassis.security import PasswordHasher, same_secret
from chassis.storage import migrations
from chassis.storage.database import DatabaseManager
from chassis.storage.failures import in_one_line
from chassis.tasks import InlineTasks, TaskRunner
from config import ROOT, AppConfig, Environment
from userservice import SERVICE_NAME
from userservice.users.links import lifetimes

if TYPE_CHECKING:
    from chassis.clients.smtp_mailer import SmtpMailer

logger = logging.getLogger(__name__)

DEVELOPMENT_KEY = "development-key"  # of `make run`, which listens on this machine alone
MAILS = ROOT / "userservice" / "mails"
EMAIL_SPAN = "user_service.send_{template}_email"


def open_backing_services(config: AppConfig, tasks: TaskRunner | None = None) -> BackingServices:
    """Make the attached resources ready for use; the first use connects.

    Args:
        config: Their addresses and limits.
        tasks: Pools for work in the background; without pools the submitting thread does it.
    """
    http = HttpClient(timeout=timedelta(seconds=config.ready_timeout_seconds), agent=SERVICE_NAME)
    mailer = make_mailer(config)
    return BackingServices(
        database=open_database(config),
        redis=RedisManager(
            config.redis_url,
            max_connections=config.redis_max_connections,
            timeout=timedelta(seconds=config.redis_timeout_seconds),
        ),
        http=http,
        mailer=mailer,
        tasks=tasks or InlineTasks(),
        hasher=PasswordHasher(
            memory_kib=config.password_memory_kib,
            time_cost=config.password_time_cost,
            parallel=config.password_concurrency,
        ),
        links=make_links(config),
        external=tuple(_external_pings(config, http, mailer)),
    )


def make_links(config: AppConfig) -> Links:
    """Make what signs the links of e-mails; all processes must have the same secret."""
    is_development = config.environment is Environment.DEVELOPMENT
    default = f"http://localhost:{config.port}" if is_development else ""
    return Links(
        config.jwt_secret,
        config.jwt_secret_previous,
        page=config.account_page(default=default),
        lifetimes=lifetimes(
            reset_seconds=config.reset_token_seconds,
            invite_seconds=config.invite_token_seconds,
            email_seconds=config.email_token_seconds,
        ),
        unmailed=config.unmailed_links if config.environment is Environment.PRODUCTION else "",
    )


def _external_pings(
    config: AppConfig, http: HttpClient, mailer: Mailer
) -> Iterator[Callable[[], None]]:
    """Yield a call for each other service that is configured."""
    if config.is_smtp:
        yield cast("SmtpMailer", mailer).ping
    elif config.email_service_url:
        yield partial(http.ping, config.email_service_url)
    if config.payment_service_url:
        yield partial(http.ping, config.payment_service_url)


def make_mailer(config: AppConfig) -> Mailer:
    """Make the mailer: for a provider, a mail server, a terminal, or only the log."""
    if config.is_smtp:
        return _make_smtp_mailer(config)
    if config.email_service_url:
        http = HttpClient(timeout=_email_timeout(config), agent=SERVICE_NAME)
        return HttpMailer(
            config.email_service_url,
            http,
            CircuitBreaker("email"),
            token=config.email_service_token,
            span_name=EMAIL_SPAN,
        )
    if config.email_on_terminal:
        return TerminalMailer(_templates(SERVICE_NAME), span_name=EMAIL_SPAN)
    return LoggingMailer()


def _make_smtp_mailer(config: AppConfig) -> SmtpMailer:
    # The library of e-mails takes 20 ms to load; most processes do not need it.
    from chassis.clients.mail_message import Sender  # noqa: PLC0415
    from chassis.clients.smtp_client import SmtpClient  # noqa: PLC0415
    from chassis.clients.smtp_mailer import SmtpMailer  # noqa: PLC0415
    from chassis.clients.smtp_server import SmtpServer  # noqa: PLC0415

    client = SmtpClient(
        SmtpServer.at(config.email_service_url),
        timeout=_email_timeout(config),
        ping_timeout=timedelta(seconds=config.ready_timeout_seconds),
    )
    sender = Sender.read(config.email_from)
    return SmtpMailer(
        client,
        CircuitBreaker("email"),
        templates=_templates(sender.name or sender.domain),
        sender=sender,
        span_name=EMAIL_SPAN,
    )


def _email_timeout(config: AppConfig) -> timedelta:
    return timedelta(seconds=config.email_timeout_seconds)


def _templates(service: str) -> MailTemplates:
    return MailTemplates(MAILS, {"service": service})


def open_database(config: AppConfig) -> DatabaseManager:
    """Make the database ready for use."""
    return DatabaseManager(
        config.database_url,
        pool_size=config.database_pool_size,
        max_overflow=config.database_max_overflow,
        pool_timeout=timedelta(seconds=config.database_pool_timeout_seconds),
        connect_timeout=timedelta(seconds=config.database_connect_timeout_seconds),
        statement_timeout=timedelta(seconds=config.database_statement_timeout_seconds),
        application_name=SERVICE_NAME,
        folder=ROOT,
    ).initialize()


def migrate_to_start(database: DatabaseManager) -> None:
    """Bring a development database up to date, before its process serves.

    Raises:
        SystemExit: the database is away, or refuses.
    """
    try:
        migrations.upgrade(database)
    except AppError as error:
        refuse(f"Cannot use the database of DATABASE_URL: {in_one_line(error)}", FAILED)
    file = Path(database.engine.url.database or "")
    if database.is_sqlite and file.parent == _temporary_folder():
        logger.warning(
            "The database is a temporary file: set DATABASE_URL to keep users",
            extra={"file": str(file)},
        )


def _temporary_folder() -> Path | None:
    """Return the folder of temporary files, if this process may write to one."""
    try:
        return Path(tempfile.gettempdir())
    except OSError:
        return None


def welcome(config: AppConfig) -> str:
    """Return where a developer goes on; only the key that everybody knows is told."""
    is_known = same_secret(config.api_key, DEVELOPMENT_KEY)
    known = f"key {DEVELOPMENT_KEY}" if is_known else "key of API_KEY"
    key = known if config.api_key else "no API_KEY is set"
    return f"\n  http://localhost:{config.port}/docs  ({key}; Ctrl-C ends)\n\n"
