"""Settings, which differ between deployments, read from the environment once and as a whole."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Self

from chassis.process.pinning import CAN_PIN
from chassis.process.stop import CLOSE_SECONDS, StopBudget
from chassis.settings.foreign import DRAMATIQ_NUMBERS, GUNICORN_NUMBERS, find_wrong
from chassis.settings.kinds import (
    boolean,
    choice,
    header,
    integer,
    ip_address,
    member,
    seconds,
    subset,
    text,
    url,
)
from chassis.settings.signing_keys import signing_secret
from chassis.settings.variables import (
    ConfigError,
    convert_all,
    mask,
    read,
    setting,
    settings_of,
)
from userservice.settings import ServiceSettings

DEVELOPMENT_SECRET = "dev-secret-change-me"  # noqa: S105 - the known default that production refuses
SECRET_BYTES = 32
# Where relative paths of settings begin, whatever folder a process is started in.
ROOT = Path(__file__).resolve().parent


class Environment(StrEnum):
    """The environment in which the service runs."""

    DEVELOPMENT = "development"
    STAGING = "staging"
    PRODUCTION = "production"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class AppConfig(ServiceSettings):
    """All settings that differ between deployments: of processes here, of resources inherited.

    A value may be given typed, or as a text, as the environment would hold it.

    Raises:
        ConfigError: naming every setting that is malformed, or refused in production.
    """

    environment: Environment = setting(
        Environment.DEVELOPMENT, member(Environment), "Where it runs; decides what is refused."
    )
    debug: bool = setting(False, boolean(), "Development server details; refused in production.")
    port: int = setting(8080, integer(1, 65535), "TCP port of the web process.")
    bind_address: str = setting("", ip_address(), "IP address of all ports; empty: any.")
    management_port: int = setting(
        0,
        integer(0, 65535),
        "Port for its /metrics, /health and /ready, which PORT then lacks; 0: none.",
    )

    database_url: str = setting(
        "sqlite:///app.db",
        url("postgresql", "postgres", "postgresql+psycopg2", "sqlite"),
        "Database to use; PostgreSQL in production.",
        secret=True,
    )
    database_pool_size: int = setting(
        10, integer(1, 1000), "Connections that a process keeps open."
    )
    database_max_overflow: int = setting(
        20, integer(0, 1000), "Connections that each process may open beyond the pool for a while."
    )
    database_pool_timeout_seconds: float = setting(
        2.0, seconds(0.05, 60), "How long a request waits for a free connection."
    )
    database_connect_timeout_seconds: int = setting(
        2, integer(1, 60), "How long opening a connection may take."
    )
    database_statement_timeout_seconds: float = setting(
        5.0, seconds(0, 3600), "How long PostgreSQL works on one statement; 0 is without end."
    )

    redis_url: str = setting(
        "redis://localhost:6379",
        url("redis", "rediss", "unix"),
        "Redis to use; set but empty: none.",
        secret=True,
        empty="",
    )
    redis_max_connections: int = setting(
        20, integer(1, 10000), "Redis connections that each process may open."
    )
    redis_timeout_seconds: float = setting(
        0.25, seconds(0.01, 60), "How long a call to Redis may take."
    )

    api_key: str = setting(
        "",
        header(),
        "Key that other services send as X-API-Key; empty: none is accepted.",
        secret=True,
    )
    jwt_secret: str = setting(
        DEVELOPMENT_SECRET,
        signing_secret(),
        "Signs tokens; at least 32 bytes in production.",
        secret=True,
    )
    jwt_secret_previous: str = setting(
        "",
        signing_secret(),
        "A second secret that is accepted while JWT_SECRET is rotated.",
        secret=True,
    )
    password_memory_kib: int = setting(
        19_456, integer(8, 4_194_304), "Memory that argon2id takes for one password."
    )
    password_time_cost: int = setting(2, integer(1, 100), "Passes of argon2id over it.")
    password_concurrency: int = setting(
        2, integer(1, 256), "Passwords that each process hashes at a time."
    )

    rate_limit_enabled: bool = setting(True, boolean(), "Whether rates are limited.")
    trusted_proxy_hops: int = setting(
        0, integer(0, 10), "Proxies before the service whose X-Forwarded-For is believed."
    )

    outbox_lease_seconds: float = setting(
        15.0, seconds(1, 3600), "How long a claimed message is left to its worker."
    )
    deliver_in_web: bool = setting(
        True, boolean(), "Whether a development web process on SQLite delivers messages."
    )
    payment_service_url: str = setting(
        "", url("http", "https"), "Payment service that /ready looks at; empty: none.", secret=True
    )
    drain_seconds: float | None = setting(
        None,
        seconds(0, 600),
        "How long a stopping process still serves; empty: 5 in production, else 0.",
    )
    termination_grace_seconds: int = setting(
        30, integer(10, 3600), "terminationGracePeriodSeconds of the pod; stopping takes less."
    )
    ready_requires: frozenset[str] = setting(
        frozenset({"database"}),
        subset("database", "redis", "external_apis"),
        "Checks of /ready that must pass; the others only degrade.",
        empty=frozenset(),
    )
    ready_timeout_seconds: float = setting(
        1.0, seconds(0.05, 30), "How long each check of /ready may take."
    )

    web_concurrency: int = setting(2, integer(1, 256), "Processes that serve HTTP.")
    web_threads: int = setting(
        16, integer(1, 256), "Requests that each of them works on at a time; more get 503."
    )
    web_pin: str = setting("auto", choice("off", "auto", "on"), "Whether each stays on one CPU.")
    request_read_seconds: float = setting(
        10.0, seconds(0.1, 600), "How long a client may take to send a request."
    )
    keepalive_seconds: float = setting(
        75.0,
        seconds(1, 3600),
        "How long an idle connection is kept; longer than the balancer before it keeps its own.",
    )
    worker_metrics_port: int = setting(
        0, integer(0, 65535), "Port of the worker's /metrics and /health; 0: none."
    )
    task_engine: str = setting(
        "local",
        choice("local", "dramatiq"),
        "Processes that work on a message: the one that claimed it, or any, through Redis.",
    )
    worker_concurrency: int = setting(
        4, integer(1, 256), "Processes of the worker pool; it has four times as many threads."
    )

    log_level: str = setting(
        "INFO", choice("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"), "Least severe log level."
    )
    log_format: str = setting(
        "auto", choice("json", "text", "auto"), "JSON, or text for people; auto: on a terminal."
    )
    telemetry_pii: bool = setting(False, boolean(), "Whether traces may hold e-mail addresses.")

    app_version: str = setting("unknown", text(), "Version that runs; the image sets it.")
    build_id: str = setting("unknown", text(), "Commit it was built from; the image sets it.")
    pod_name: str = setting("", text(), "Pod, from the Kubernetes downward API.")
    pod_namespace: str = setting("", text(), "Namespace, from the downward API.")
    node_name: str = setting("", text(), "Node, from the downward API.")

    def __post_init__(self) -> None:
        problems = convert_all(self)
        problems += _contradictions(self)
        problems += _refusals(self) if self.environment is Environment.PRODUCTION else []
        if problems:
            raise ConfigError(problems)

    @property
    def stop_budget(self) -> StopBudget:
        """The parts of the time to stop; in production the process still serves for a while."""
        usual = 5.0 if self.environment is Environment.PRODUCTION else 0.0
        return StopBudget(
            grace_seconds=self.termination_grace_seconds,
            drain_seconds=usual if self.drain_seconds is None else self.drain_seconds,
        )

    @classmethod
    def from_env(cls, variables: Mapping[str, str] | None = None) -> Self:
        """Read the environment, before anything is started.

        Raises:
            ConfigError: naming every missing, malformed or refused variable at once.
        """
        variables = os.environ if variables is None else variables
        given, problems = read(settings_of(cls), variables, folder=ROOT)
        problems += find_wrong(variables, GUNICORN_NUMBERS)
        if given.get("task_engine") == "dramatiq":
            problems += find_wrong(variables, DRAMATIQ_NUMBERS)
        try:
            config = cls(**given)
        except ConfigError as error:
            raise ConfigError(problems + error.problems) from None
        if problems:
            raise ConfigError(problems)
        return config

    def masked(self) -> dict[str, str]:
        """Return variable -> value as text, fit for logs: no secret, no password in a URL."""
        changed = {"drain_seconds": self.stop_budget.drain_seconds}
        return {
            each.name.upper(): mask(each, changed.get(each.name, getattr(self, each.name)))
            for each in settings_of(type(self))
        }

    def __repr__(self) -> str:
        shown = ", ".join(f"{name.lower()}={value!r}" for name, value in self.masked().items())
        return f"AppConfig({shown})"


def _contradictions(config: AppConfig) -> list[str]:
    """Return a sentence for each pair of settings that contradict each other."""
    rules = {
        f"TERMINATION_GRACE_SECONDS must be at least DRAIN_SECONDS + {CLOSE_SECONDS + 1}": (
            config.stop_budget.finish_seconds < 1
        ),
        "MANAGEMENT_PORT must differ from PORT": config.management_port == config.port,
        "WEB_PIN=on needs Linux": config.web_pin == "on" and not CAN_PIN,
        "TASK_ENGINE=dramatiq needs a REDIS_URL": (
            config.task_engine == "dramatiq" and not config.redis_url
        ),
        "OUTBOX_LEASE_SECONDS must be longer than EMAIL_TIMEOUT_SECONDS": (
            config.outbox_lease_seconds <= config.email_timeout_seconds
        ),
        "EMAIL_ON_TERMINAL is for ENVIRONMENT=development": (
            config.email_on_terminal and config.environment is not Environment.DEVELOPMENT
        ),
        **config.contradictions(),
    }
    return [sentence for sentence, broken in rules.items() if broken]


def _refusals(config: AppConfig) -> list[str]:
    """Return a sentence for each setting that production must not have."""
    rules = {
        "API_KEY is required in production": not config.api_key,
        "JWT_SECRET must be changed in production": config.jwt_secret == DEVELOPMENT_SECRET,
        f"JWT_SECRET must have at least {SECRET_BYTES} bytes in production": (
            config.jwt_secret != DEVELOPMENT_SECRET and is_short(config.jwt_secret)
        ),
        f"JWT_SECRET_PREVIOUS must have at least {SECRET_BYTES} bytes in production": (
            bool(config.jwt_secret_previous) and is_short(config.jwt_secret_previous)
        ),
        "DEBUG must be off in production": config.debug,
        "DATABASE_URL must name a PostgreSQL database in production": (
            config.database_url.startswith("sqlite")
        ),
        **config.refusals(),
    }
    return [sentence for sentence, broken in rules.items() if broken]


def is_short(secret: str) -> bool:
    """Tell whether a secret has fewer bytes than production wants."""
    return len(secret.encode()) < SECRET_BYTES
