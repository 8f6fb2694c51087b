"""Variables that libraries read by themselves, and the effect that each has on a process."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from chassis.settings.kinds import Kind, integer


class Effect(StrEnum):
    """The part that such a variable plays."""

    SETTING = "a setting of ours"
    HONOURED = "honoured"
    WARNED = "honoured, and `check --deploy` asks whether it is meant"
    NONE = "without effect"


@dataclass(frozen=True, slots=True)
class Foreign:
    """Variables of one library that have the same effect.

    `names` may end in `*`, which stands for any end; `remark` is a sentence for the documentation.
    """

    names: tuple[str, ...]
    reader: str
    effect: Effect
    remark: str


FOREIGN = (
    Foreign(
        ("WEB_CONCURRENCY", "PORT"), "gunicorn", Effect.SETTING, "Read before gunicorn reads them."
    ),
    Foreign(
        ("GUNICORN_CMD_ARGS",),
        "gunicorn",
        Effect.WARNED,
        "Arguments of gunicorn, which win over the settings here; those without effect are "
        "refused, see [operations](operations.md#behind-a-proxy).",
    ),
    Foreign(
        ("FORWARDED_ALLOW_IPS", "SENDFILE"),
        "gunicorn",
        Effect.NONE,
        "`TRUSTED_PROXY_HOPS` says which proxies are believed.",
    ),
    Foreign(
        ("LISTEN_FDS", "LISTEN_PID", "NOTIFY_SOCKET"),
        "gunicorn",
        Effect.HONOURED,
        "systemd's, for sockets that it hands over.",
    ),
    Foreign(("FLASK_*",), "Flask", Effect.NONE, "`DEBUG` and `python app.py --debug` do that."),
    Foreign(("WERKZEUG_*",), "Werkzeug", Effect.HONOURED, "For the development server alone."),
    Foreign(
        ("PGOPTIONS",),
        "libpq",
        Effect.HONOURED,
        "Added behind the options of the service, unless `DATABASE_URL` has `options`.",
    ),
    Foreign(
        ("PGCONNECT_TIMEOUT", "PGAPPNAME", "PGCLIENTENCODING", "PGDATESTYLE"),
        "libpq",
        Effect.NONE,
        "The service connects with values of its own; `DATABASE_URL` may hold others.",
    ),
    Foreign(
        ("PGTZ",),
        "libpq",
        Effect.HONOURED,
        "Zone of the session; what is stored and returned is in UTC all the same.",
    ),
    Foreign(
        ("PG*",),
        "libpq",
        Effect.HONOURED,
        "They fill in what `DATABASE_URL` leaves out: host, role, password, `PGSSLMODE`, ...",
    ),
    Foreign(
        ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
        "the HTTP client",
        Effect.HONOURED,
        "See [operations](operations.md#calls-to-other-services); small letters, too.",
    ),
    Foreign(
        ("SSL_CERT_FILE", "SSL_CERT_DIR"),
        "OpenSSL",
        Effect.HONOURED,
        "Certificates to trust instead of the system's.",
    ),
    Foreign(
        ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NETRC"),
        "requests",
        Effect.NONE,
        "No call leaves through it; `SSL_CERT_FILE` is for all calls.",
    ),
    Foreign(
        ("SSLKEYLOGFILE",),
        "Python",
        Effect.WARNED,
        "Writes the keys of TLS connections to a file: whoever has it reads the traffic.",
    ),
    Foreign(
        ("OTEL_*",),
        "OpenTelemetry",
        Effect.HONOURED,
        "See [telemetry](telemetry.md); they win over the settings here.",
    ),
    Foreign(("GRPC_*",), "gRPC", Effect.HONOURED, "For the exporter of telemetry over gRPC."),
    Foreign(
        ("PROMETHEUS_MULTIPROC_DIR",),
        "prometheus-client",
        Effect.HONOURED,
        "Folder of the web process's counts; a new temporary one by default. Of no effect on the "
        "worker and on commands.",
    ),
    Foreign(
        ("PROMETHEUS_*",), "prometheus-client", Effect.NONE, "The service decides what it exposes."
    ),
    Foreign(
        ("dramatiq_*",),
        "Dramatiq",
        Effect.HONOURED,
        "With `TASK_ENGINE=dramatiq`; numbers that it cannot use are refused at the start.",
    ),
    Foreign(
        ("SQLALCHEMY_*",), "SQLAlchemy", Effect.HONOURED, "Warnings of the library, for developers."
    ),
    Foreign(
        ("ALEMBIC_CONFIG",), "Alembic", Effect.NONE, "Migrations are configured by the service."
    ),
    Foreign(("PYDANTIC_*",), "Pydantic", Effect.HONOURED, "Plugins of the library."),
    Foreign(
        ("PYTHONDEVMODE", "PYTHONINSPECT", "PYTHONTRACEMALLOC", "PYTHONHASHSEED", "PYTHONWARNINGS"),
        "Python",
        Effect.WARNED,
        "Slow, or meant for a debugger; a fixed hash seed lets callers slow the service down.",
    ),
    Foreign(("PYTHON*",), "Python", Effect.HONOURED, "The interpreter's own."),
    Foreign(("TZ",), "Python", Effect.HONOURED, "For `LOG_FORMAT=text` alone; all else is in UTC."),
    Foreign(("TMPDIR",), "Python", Effect.HONOURED, "Folder of temporary files; must be writable."),
)

_DAY_MILLISECONDS = 86_400_000
# Variable -> accepted texts; Dramatiq turns them into numbers while it is imported.
DRAMATIQ_NUMBERS: dict[str, Kind] = {
    "dramatiq_restart_delay": integer(0, _DAY_MILLISECONDS),
    "dramatiq_queue_prefetch": integer(0, 65535),  # 0: a default
    "dramatiq_delay_queue_prefetch": integer(0, 65535),
    "dramatiq_worker_timeout": integer(1, _DAY_MILLISECONDS),  # 0 would ask without a pause
    "dramatiq_lua_max_stack": integer(2, 1_000_000),  # it takes half of it
}
# The same for gunicorn, of systemd's variables.
GUNICORN_NUMBERS: dict[str, Kind] = {
    "LISTEN_FDS": integer(0, 65535),
    "LISTEN_PID": integer(0, 2**31 - 1),
}


def find_wrong(variables: Mapping[str, str], numbers: Mapping[str, Kind]) -> list[str]:
    """Return a sentence for each of the variables whose library could not use it."""
    wrong = []
    for name, kind in numbers.items():
        if name not in variables:
            continue
        try:
            kind.parse(variables[name])
        except ValueError:
            wrong.append(f"{name} must be {kind.accepts}, not {variables[name]!r}")
    return wrong


def find_warned(variables: Mapping[str, str]) -> list[str]:
    """Return the variables that are set and that an operator should know of."""
    return sorted(
        name for name, value in variables.items() if value and effect_of(name) is Effect.WARNED
    )


def effect_of(name: str, table: Iterable[Foreign] = FOREIGN) -> Effect | None:
    """Return the effect of a variable; of the entries that fit, the first counts."""
    for each in table:
        if any(re.fullmatch(re.escape(known).replace(r"\*", ".*"), name) for known in each.names):
            return each.effect
    return None
