"""Wiring: all processes open their attached resources here."""

from __future__ import annotations

from datetime import timedelta

from chassis.backing_services import BackingServices
from chassis.clients.http_client import HttpClient
from chassis.clients.mailer import HttpMailer, LoggingMailer, Mailer
from chassis.clients.redis import RedisManager
from chassis.clients.resilience import CircuitBreaker
from chassis.errors import AppError
from chassis.process.start import FAILED, refuse
from chassis.security import PasswordHasher
from chassis.storage import migrations
from chassis.storage.database import DatabaseManager
from chassis.storage.failures import in_one_line
from chassis.tasks import InlineTasks, TaskRunner
from config import ROOT, AppConfig
from userservice import SERVICE_NAME

EMAIL_SPAN = "user_service.send_{template}_email"


def open_backing_services(config: AppConfig, tasks: TaskRunner | None = None) -> BackingServices:
    """Make the attached resources ready for use; the first use connects.

    Args:
        config: Their addresses and limits.
        tasks: Pools for work in the background; without pools the submitting thread does it.
    """
    ready_timeout = timedelta(seconds=config.ready_timeout_seconds)
    return BackingServices(
        database=open_database(config),
        redis=RedisManager(
            config.redis_url,
            max_connections=config.redis_max_connections,
            timeout=timedelta(seconds=config.redis_timeout_seconds),
        ),
        http=HttpClient(timeout=ready_timeout, agent=SERVICE_NAME),
        mailer=make_mailer(config),
        tasks=tasks or InlineTasks(),
        hasher=PasswordHasher(
            memory_kib=config.password_memory_kib,
            time_cost=config.password_time_cost,
            parallel=config.password_concurrency,
        ),
        external_urls=tuple(filter(None, (config.email_service_url, config.payment_service_url))),
    )


def make_mailer(config: AppConfig) -> Mailer:
    """Make the mailer: it posts to the provider, or only logs when none is configured."""
    if not config.email_service_url:
        return LoggingMailer()
    email_timeout = timedelta(seconds=config.email_timeout_seconds)
    http = HttpClient(timeout=email_timeout, agent=SERVICE_NAME)
    return HttpMailer(config.email_service_url, http, CircuitBreaker("email"), span_name=EMAIL_SPAN)


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
