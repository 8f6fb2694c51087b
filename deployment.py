"""Findings of `admin check`; with --deploy also of what starts, and nobody should deploy."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from urllib.parse import urlsplit

from chassis.backing_services import BackingServices
from chassis.cli import checks
from chassis.cli.checks import Finding
from chassis.clients.otlp_exporters import is_exported
from chassis.settings.foreign import find_warned
from chassis.settings.token_keys import HS256
from chassis.storage.database import with_driver
from chassis.storage.sqlite import anchored
from chassis.telemetry.otel_variables import complained_of, find
from config import DEVELOPMENT_SECRET, ROOT, AppConfig, Environment, is_short
from userservice.keys.checks import check_keys

# Attached resource -> remedy when it is away.
ADVICE = {
    "database": "check DATABASE_URL and that it runs",
    "redis": "check REDIS_URL, or set it to nothing to do without",
    "external_apis": "check EMAIL_SERVICE_URL and PAYMENT_SERVICE_URL",
}

HOUR = 3600  # seconds
OTLP_PORT = {"grpc": 4317}  # by protocol; all others speak HTTP
OTLP_HTTP_PORT = 4318


@dataclass(frozen=True, slots=True)
class Rule:
    """A finding about settings alone; a note fails no deployment, because it may be meant."""

    check: str
    advice: str
    is_broken: Callable[[AppConfig], bool]
    is_note: bool = False


def _has_equal_keys(config: AppConfig) -> bool:
    public = config.public_tokens()
    return public is not None and len(public.keys) < len(config.signing_keys)


RULES = (
    Rule(
        "environment",
        "ENVIRONMENT=production refuses what should not be deployed",
        lambda config: config.environment is not Environment.PRODUCTION,
    ),
    Rule(
        "default_secret",
        "set JWT_SECRET; with the default one anybody can make tokens",
        lambda config: config.jwt_secret == DEVELOPMENT_SECRET,
    ),
    Rule(
        "short_secret",
        "give JWT_SECRET, JWT_SECRET_PREVIOUS and API_KEY 32 bytes or more: openssl rand -hex 32",
        lambda config: any(
            is_short(each)
            for each in (config.jwt_secret, config.jwt_secret_previous, config.api_key)
            if each and each != DEVELOPMENT_SECRET
        ),
    ),
    Rule(
        "equal_keys",
        "let TOKEN_SIGNING_KEY, TOKEN_SIGNING_KEY_NEXT and TOKEN_SIGNING_KEY_PREVIOUS differ",
        _has_equal_keys,
    ),
    Rule(
        "plain_issuer",
        "let TOKEN_ISSUER begin with https://; anybody between could swap the published keys",
        lambda config: config.token_issuer.startswith("http:"),
    ),
    Rule(
        "long_tokens",
        "set ACCESS_TOKEN_SECONDS to 3600 or less; services that verify by themselves learn of no "
        "end before",
        lambda config: bool(config.token_signing_key) and config.access_token_seconds > HOUR,
    ),
    Rule(
        "secret_holds",
        "empty TOKEN_SIGNING_KEY_PREVIOUS once the tokens of JWT_SECRET have expired",
        lambda config: config.token_signing_key_previous == HS256,
        is_note=True,
    ),
    Rule(
        "no_api_key",
        "set API_KEY; without one only keys of /api-keys let services in",
        lambda config: not config.api_key,
    ),
    Rule(
        "sqlite",
        "let DATABASE_URL name a PostgreSQL database, which all replicas share",
        lambda config: config.database_url.startswith("sqlite"),
    ),
    Rule("debug", "turn DEBUG off", lambda config: config.debug),
    Rule(
        "log_level",
        "LOG_LEVEL=DEBUG writes much, and slows each request; take INFO",
        lambda config: config.log_level == "DEBUG",
    ),
    Rule(
        "no_limits",
        "turn RATE_LIMIT_ENABLED on; else passwords can be guessed as fast as they are hashed",
        lambda config: not config.rate_limit_enabled,
    ),
    Rule(
        "limits_by_process",
        "without REDIS_URL each process counts by itself, and limits are as many times higher",
        lambda config: config.rate_limit_enabled and not config.redis_url,
        is_note=True,
    ),
    Rule(
        "open_registration",
        "anybody may create users; REGISTRATION=authenticated leaves it to administrators",
        lambda config: config.registration == "open",
        is_note=True,
    ),
    Rule(
        "unverified_addresses",
        "nobody shows that an address is theirs; EMAIL_VERIFICATION=optional has them asked",
        lambda config: config.email_verification == "off",
        is_note=True,
    ),
    Rule(
        "personal_data",
        "turn TELEMETRY_PII off; traces hold e-mail addresses",
        lambda config: config.telemetry_pii,
    ),
    Rule(
        "proxy_hops",
        "set TRUSTED_PROXY_HOPS to the number of proxies before the pods; with 0 the limits take "
        "all clients for one",
        lambda config: bool(config.pod_name) and not config.trusted_proxy_hops,
    ),
    Rule(
        "plain_email",
        "let EMAIL_SERVICE_URL begin with https://, smtps:// or smtp+starttls://",
        lambda config: config.email_service_url.startswith(("http:", "smtp:")),
        is_note=True,
    ),
    Rule(
        "no_email",
        "without EMAIL_SERVICE_URL no e-mail is sent",
        lambda config: not config.email_service_url,
        is_note=True,
    ),
)


def check(config: AppConfig, services: BackingServices, *, is_deploy: bool) -> Iterator[Finding]:
    """Check what the service needs; with `is_deploy` also what nobody should deploy."""
    per_process = config.database_pool_size + config.database_max_overflow
    yield Finding("configuration", passed=True)  # a wrong one would have raised before
    yield from check_link_page(config)
    yield from checks.check_services(
        services,
        advice=ADVICE,
        required=config.ready_requires,
        connections=config.web_concurrency * min(config.web_threads, per_process),
    )
    if is_deploy:
        yield from check_deployment(config, os.environ)
        yield from check_keys(services.database)


def check_link_page(config: AppConfig) -> Iterator[Finding]:
    """Check that links in e-mails lead somewhere; in development that is this machine."""
    if config.environment is not Environment.DEVELOPMENT:
        yield Finding(
            "link_page",
            passed=bool(config.account_page(default="")),
            advice="set PUBLIC_URL, or ACCOUNT_URL; without one no e-mail with a link is sent, so "
            "that nobody can replace a forgotten password",
        )


def check_deployment(config: AppConfig, variables: Mapping[str, str]) -> Iterator[Finding]:
    """Check settings, files, the variables of libraries, and where telemetry goes."""
    for rule in RULES:
        yield Finding(
            rule.check,
            passed=not rule.is_broken(config),
            advice=rule.advice,
            is_note=rule.is_note,
        )
    yield _finding(
        "readable_files", "take others' right to read: ", _find_readable(config, variables)
    )
    yield _finding("library_variables", "are these meant? ", find_warned(variables))
    yield _finding("telemetry_variables", "not used as they stand: ", complained_of())
    yield _finding("collector", "nobody listens at ", find_deaf(config, variables))


def _finding(check: str, advice: str, names: list[str]) -> Finding:
    return Finding(check, passed=not names, advice=advice + ", ".join(names))


def _find_readable(config: AppConfig, variables: Mapping[str, str]) -> list[str]:
    """Return the files with secrets or users that everybody on this machine may read."""
    secrets = (each.name.upper() for each in fields(AppConfig) if each.metadata["secret"])
    paths = {f"{name}_FILE": variables.get(f"{name}_FILE") for name in secrets}
    url = with_driver(config.database_url)
    if url.get_backend_name() == "sqlite":
        paths["DATABASE_URL"] = anchored(url, ROOT).database
    found = []
    for name, path in paths.items():
        with suppress(OSError):
            if path and (ROOT / path).stat().st_mode & stat.S_IROTH:
                found.append(name)
    return found


def find_deaf(config: AppConfig, variables: Mapping[str, str]) -> list[str]:
    """Return the addresses of collectors that accept no connection."""
    addresses = {
        _collector(signal, variables) for signal in ("traces", "metrics") if is_exported(signal)
    }
    return [
        f"{host}:{port}"
        for host, port in sorted(addresses)
        if not _listens(host, port, config.ready_timeout_seconds)
    ]


def _collector(signal: str, variables: Mapping[str, str]) -> tuple[str, int]:
    """Return the host and the port that telemetry of one kind is sent to."""
    endpoint = find(signal, "ENDPOINT", variables) or "localhost"
    parts = urlsplit(endpoint if "://" in endpoint else f"//{endpoint}")
    usual = OTLP_PORT.get(find(signal, "PROTOCOL", variables), OTLP_HTTP_PORT)
    if parts.scheme:
        usual = {"http": 80, "https": 443}.get(parts.scheme, usual)
    with suppress(ValueError):
        return parts.hostname or "", parts.port or usual
    return parts.hostname or "", usual


def _listens(host: str, port: int, seconds: float) -> bool:
    try:
        socket.create_connection((host, port), timeout=seconds).close()
    except OSError:
        return False
    return True
