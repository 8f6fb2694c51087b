"""What differs between deployments, read from the environment once and checked as a whole."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, Self
from urllib.parse import SplitResult, urlsplit

DEVELOPMENT_SECRET = "dev-secret-change-me"  # noqa: S105 - the known default that production refuses
SECRET_BYTES = 32
MASK = "***"
# Of the time to stop: for pools, connections and telemetry, when all requests are answered.
CLOSING_SECONDS = 5


class ConfigError(ValueError):
    """The configuration cannot be used; `problems` holds one sentence for each reason."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Environment(StrEnum):
    """Where the service runs."""

    DEVELOPMENT = "development"
    STAGING = "staging"
    PRODUCTION = "production"


@dataclass(frozen=True, slots=True)
class Kind:
    """How the text of a variable becomes a value.

    `parse` raises ValueError for what `accepts`, a phrase for people, leaves out.
    `mask` returns what may be shown of a secret.
    """

    accepts: str
    parse: Callable[[str], Any]
    mask: Callable[[str], str] = lambda _: MASK


def text() -> Kind:
    """Accept any text; bytes that are none would fail later, where the text is used."""

    def parse(raw: str) -> str:
        raw.encode()  # raises a ValueError
        return raw

    return Kind("text in UTF-8", parse)


def integer(low: int, high: int) -> Kind:
    """Accept whole numbers from `low` to `high`."""

    def parse(raw: str) -> int:
        if not re.fullmatch(r"\d{1,12}", raw, re.ASCII) or not low <= int(raw) <= high:
            raise ValueError(raw)
        return int(raw)

    return Kind(f"a whole number from {low} to {high}", parse)


def seconds(low: float, high: float) -> Kind:
    """Accept durations in seconds, fractions included."""

    def parse(raw: str) -> float:
        if not re.fullmatch(r"\d{1,9}(\.\d{1,9})?", raw, re.ASCII) or not low <= float(raw) <= high:
            raise ValueError(raw)
        return float(raw)

    return Kind(f"seconds from {low:g} to {high:g}", parse)


def boolean() -> Kind:
    """Accept the usual spellings of true and false, in any case."""
    spellings = dict.fromkeys(("true", "1", "yes", "on"), True)
    spellings |= dict.fromkeys(("false", "0", "no", "off"), False)
    return Kind("true, false, 1, 0, yes, no, on or off", _lookup(spellings))


def choice(*values: str) -> Kind:
    """Accept one of `values`, in any case."""
    return Kind(_either(values), _lookup({value.lower(): value for value in values}))


def environment() -> Kind:
    """Accept the full name of an environment; short forms are not guessed at."""
    return Kind(_either(list(Environment)), _lookup({str(each): each for each in Environment}))


def subset(*values: str) -> Kind:
    """Accept a comma-separated choice of `values`, none of them included."""

    def parse(raw: str) -> frozenset[str]:
        chosen = frozenset(part.strip().lower() for part in raw.split(",") if part.strip())
        if not chosen <= set(values):
            raise ValueError(raw)
        return chosen

    return Kind(f"a comma-separated list out of {', '.join(values)}", parse)


def url(*schemes: str) -> Kind:
    """Accept a URL with one of `schemes`, as strictly as whoever will use it."""

    def parse(raw: str) -> str:
        scheme = raw.partition("://")[0]
        parts = urlsplit(raw)
        is_readable = raw.isprintable() and raw == raw.strip()
        if scheme not in schemes or not is_readable or not _has_host(parts, scheme):
            raise ValueError(raw)
        _ = parts.port  # raises ValueError when it is no number
        return raw

    beginnings = _either([f"{scheme}://" for scheme in schemes])
    return Kind(f"a URL that begins with {beginnings}", parse, _mask_url)


def _has_host(parts: SplitResult, scheme: str) -> bool:
    """Tell whether a URL names a host, where its scheme wants one."""
    if scheme in {"sqlite", "unix"}:  # a path follows
        return not parts.hostname
    if scheme.startswith("postgres"):  # its client library has a default
        return not parts.netloc.endswith(":")
    return bool(parts.hostname)


def _mask_url(shown: str) -> str:
    shown = re.sub(r"(?i)([?&][^=&]*(?:pass|secret|token|key)[^=&]*=)[^&]+", rf"\1{MASK}", shown)
    # Up to the last @: a password may hold any character, even one that should be escaped.
    shown = re.sub(r"(?<=//)([^:/@]*):.*@", rf"\1:{MASK}@", shown)
    # What stands alone before the @ is a token, or a password by mistake; to a database, a name.
    return re.sub(r"^(https?://|rediss?://|unix://)[^:/]*@", rf"\1{MASK}@", shown)


def rate() -> Kind:
    """Accept a number of requests for a span of time."""

    def parse(raw: str) -> str:
        if not re.fullmatch(r"[1-9]\d{0,8}/(second|minute|hour|day)", raw, re.ASCII):
            raise ValueError(raw)
        return raw

    return Kind("a rate such as 30/minute (second, minute, hour or day)", parse)


def origins() -> Kind:
    """Accept a comma-separated list of web origins."""

    def parse(raw: str) -> frozenset[str]:
        chosen = frozenset(part.strip() for part in raw.split(",") if part.strip())
        if not all(re.fullmatch(r"https?://[A-Za-z0-9.:\[\]-]+", each) for each in chosen):
            raise ValueError(raw)
        return chosen

    return Kind("a comma-separated list of origins such as https://app.example.com", parse)


def _lookup(values: Mapping[str, Any]) -> Callable[[str], Any]:
    def parse(raw: str) -> Any:
        try:
            return values[raw.strip().lower()]
        except KeyError as error:
            raise ValueError(raw) from error

    return parse


def _either(values: list[str] | tuple[str, ...] | list[Environment]) -> str:
    return " or ".join(filter(None, [", ".join(values[:-1]), values[-1]]))


def setting(
    default: Any,
    kind: Kind,
    doc: str,
    *,
    secret: bool = False,
    empty: Any = None,
) -> Any:
    """Declare a setting; its variable is the field's name in capitals.

    Args:
        default: Value when the variable is absent.
        kind: What is accepted.
        doc: A sentence for the configuration table.
        secret: Never shown, and readable from the file that `<variable>_FILE` names.
        empty: Value of a variable that is set but empty; the default unless it says "none".
    """
    empty = default if empty is None else empty
    return field(
        default=default, metadata={"kind": kind, "doc": doc, "secret": secret, "empty": empty}
    )


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class AppConfig:
    """Everything that differs between deployments, and nothing else.

    Values may be given typed or as the text that the environment would hold.

    Raises:
        ConfigError: naming every setting that is malformed, or refused in production.
    """

    environment: Environment = setting(
        Environment.DEVELOPMENT, environment(), "Where the service runs; decides what is refused."
    )
    debug: bool = setting(False, boolean(), "Development server details; refused in production.")
    port: int = setting(8080, integer(1, 65535), "TCP port of the web process, on all interfaces.")

    database_url: str = setting(
        "sqlite:///app.db",
        url("postgresql", "postgres", "postgresql+psycopg2", "sqlite"),
        "Database to use; PostgreSQL in production.",
        secret=True,
    )
    database_pool_size: int = setting(
        10, integer(1, 1000), "Connections that each process keeps open."
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
        text(),
        "Key that other services send as X-API-Key; empty: none is accepted.",
        secret=True,
    )
    jwt_secret: str = setting(
        DEVELOPMENT_SECRET, text(), "Signs tokens; at least 32 bytes in production.", secret=True
    )
    jwt_secret_previous: str = setting(
        "", text(), "A second secret that is accepted while JWT_SECRET is rotated.", secret=True
    )

    access_token_seconds: int = setting(900, integer(1, 86400), "How long an access token holds.")
    refresh_token_seconds: int = setting(
        2_592_000, integer(60, 31_536_000), "How long a log-in can be renewed without a password."
    )
    password_memory_kib: int = setting(
        19_456, integer(8, 4_194_304), "Memory that argon2id takes for one password."
    )
    password_time_cost: int = setting(2, integer(1, 100), "Passes of argon2id over it.")
    password_concurrency: int = setting(
        2, integer(1, 256), "Passwords that each process hashes at a time."
    )

    registration: str = setting(
        "open",
        choice("open", "authenticated"),
        "Who may create users: everyone, or administrators.",
    )
    rate_limit_enabled: bool = setting(True, boolean(), "Whether rates are limited.")
    rate_limit_registration: str = setting(
        "30/minute", rate(), "Registrations for each client, and for each address."
    )
    rate_limit_login: str = setting(
        "10/minute", rate(), "Log-ins for each client, and for each address."
    )
    trusted_proxy_hops: int = setting(
        0, integer(0, 10), "Proxies before the service whose X-Forwarded-For is believed."
    )
    cors_origins: frozenset[str] = setting(
        frozenset(), origins(), "Web pages whose scripts may call the API; empty: none."
    )

    email_service_url: str = setting(
        "", url("http", "https"), "Where e-mails are posted to; empty: none are sent.", secret=True
    )
    email_timeout_seconds: float = setting(
        5.0, seconds(0.05, 300), "How long handing over an e-mail may take."
    )
    outbox_lease_seconds: float = setting(
        15.0, seconds(1, 3600), "How long a claimed message is left to its worker."
    )
    deliver_in_web: bool = setting(
        True, boolean(), "Whether a web process on SQLite delivers messages; never in production."
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

    import_max_bytes: int = setting(
        104_857_600, integer(1, 1_099_511_627_776), "Size of an import, in bytes."
    )
    transfers: int = setting(
        2, integer(1, 256), "Imports and exports that each web process transfers at a time."
    )
    web_concurrency: int = setting(2, integer(1, 256), "Processes that serve HTTP.")
    web_threads: int = setting(
        16, integer(1, 256), "Requests that each of them works on at a time; more get 503."
    )
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
        "Who works on messages: the process that claimed them, or any, through Redis.",
    )
    worker_concurrency: int = setting(
        4, integer(1, 256), "Processes of the worker pool; it has four times as many threads."
    )

    log_level: str = setting(
        "INFO", choice("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"), "Least severe log level."
    )
    log_format: str = setting(
        "json", choice("json", "text"), "One JSON object a line, or text for people."
    )

    telemetry_pii: bool = setting(False, boolean(), "Whether traces may hold e-mail addresses.")

    app_version: str = setting("unknown", text(), "Version that runs; the image sets it.")
    build_id: str = setting("unknown", text(), "Commit it was built from; the image sets it.")
    pod_name: str = setting("", text(), "Pod, from the Kubernetes downward API.")
    pod_namespace: str = setting("", text(), "Namespace, from the downward API.")
    node_name: str = setting("", text(), "Node, from the downward API.")

    def __post_init__(self) -> None:
        problems = [problem for each in fields(self) if (problem := self._convert(each))]
        problems += _contradictions(self)
        problems += _refusals(self) if self.environment is Environment.PRODUCTION else []
        if problems:
            raise ConfigError(problems)

    @property
    def drain(self) -> float:
        """How long a stopping process still serves, in seconds."""
        if self.drain_seconds is not None:
            return self.drain_seconds
        return 5.0 if self.environment is Environment.PRODUCTION else 0.0

    @property
    def finish(self) -> float:
        """How long requests in flight may then take, in seconds; the rest is for closing."""
        return self.termination_grace_seconds - self.drain - CLOSING_SECONDS

    @classmethod
    def from_env(cls, variables: Mapping[str, str] | None = None) -> Self:
        """Read the environment, failing before anything has been started.

        Raises:
            ConfigError: naming every missing, malformed or refused variable at once.
        """
        given, problems = _read(os.environ if variables is None else variables)
        try:
            config = cls(**given)
        except ConfigError as error:
            raise ConfigError(problems + error.problems) from None
        if problems:
            raise ConfigError(problems)
        return config

    def masked(self) -> dict[str, str]:
        """Return variable -> value as text, fit for logs: no secret, no password in a URL."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        values["drain_seconds"] = self.drain
        return {each.name.upper(): _mask(each, values[each.name]) for each in fields(self)}

    def __repr__(self) -> str:
        shown = ", ".join(f"{name.lower()}={value!r}" for name, value in self.masked().items())
        return f"AppConfig({shown})"

    def _convert(self, each: Field[Any]) -> str | None:
        """Replace a field's text by its value, or say what is wrong with it."""
        value = getattr(self, each.name)
        raw = (
            ",".join(value) if isinstance(value, frozenset) else str("" if value is None else value)
        )
        try:
            value = each.metadata["kind"].parse(raw) if raw else each.metadata["empty"]
        except ValueError:
            # Back to the default, so that the rules of production can still be looked at.
            value = each.default
            shown = "" if each.metadata["secret"] else f", not {raw!r}"
            return f"{each.name.upper()} must be {each.metadata['kind'].accepts}{shown}"
        finally:
            object.__setattr__(self, each.name, value)
        return None


def _contradictions(config: AppConfig) -> list[str]:
    """Say which settings do not go together."""
    rules = {
        f"TERMINATION_GRACE_SECONDS must be at least DRAIN_SECONDS + {CLOSING_SECONDS + 1}": (
            config.finish < 1
        ),
        "TASK_ENGINE=dramatiq needs a REDIS_URL": (
            config.task_engine == "dramatiq" and not config.redis_url
        ),
        "OUTBOX_LEASE_SECONDS must be longer than EMAIL_TIMEOUT_SECONDS": (
            config.outbox_lease_seconds <= config.email_timeout_seconds
        ),
    }
    return [sentence for sentence, broken in rules.items() if broken]


def _refusals(config: AppConfig) -> list[str]:
    """Say what production may not run with."""
    rules = {
        "API_KEY is required in production": not config.api_key,
        "JWT_SECRET must be changed in production": config.jwt_secret == DEVELOPMENT_SECRET,
        f"JWT_SECRET must have at least {SECRET_BYTES} bytes in production": (
            config.jwt_secret != DEVELOPMENT_SECRET and _is_short(config.jwt_secret)
        ),
        f"JWT_SECRET_PREVIOUS must have at least {SECRET_BYTES} bytes in production": (
            bool(config.jwt_secret_previous) and _is_short(config.jwt_secret_previous)
        ),
        "DEBUG must be off in production": config.debug,
        "DATABASE_URL must name a PostgreSQL database in production": (
            config.database_url.startswith("sqlite")
        ),
    }
    return [sentence for sentence, broken in rules.items() if broken]


def _is_short(secret: str) -> bool:
    return len(secret.encode()) < SECRET_BYTES


def _read(variables: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """Return the texts that were given, by field name, and what is wrong with files."""
    given: dict[str, Any] = {}
    problems = []
    for each in fields(AppConfig):
        variable = each.name.upper()
        value = variables.get(variable)
        path = variables.get(f"{variable}_FILE") if each.metadata["secret"] else None
        if value and path:
            problems.append(f"{variable} and {variable}_FILE are both set; keep one of them")
        elif path:
            try:
                value = Path(path).read_text(encoding="utf-8").rstrip("\r\n")
            except (OSError, UnicodeDecodeError) as error:
                reason = getattr(error, "strerror", None) or "not UTF-8 text"
                problems.append(f"{variable}_FILE must name a readable file: {path}: {reason}")
        if value is not None:
            given[each.name] = value
    return given, problems


def _mask(each: Field[Any], value: object) -> str:
    shown = ",".join(sorted(value)) if isinstance(value, frozenset) else str(value)
    return each.metadata["kind"].mask(shown) if each.metadata["secret"] and shown else shown
