"""The subjects of measurement: the service as it ships, variants of it, and its peers."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

ROOT = Path(__file__).resolve().parent.parent
PEERS = ROOT / "benchmarks" / "peers"
ENVIRONMENTS = ROOT / "build" / "bench"

API_KEY = secrets.token_urlsafe(32)
JWT_SECRET = secrets.token_urlsafe(48)

# With the packages that are shipped, and none of those for development.
PYTHON = str(ROOT / ".venv-run" / "bin" / "python")
SERVICE = (PYTHON, "app.py")
SAMPLED = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.1"}
NOT_EXPORTED = {"OTEL_SDK_DISABLED": "true", "LOG_LEVEL": "WARNING"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """One server; `key` names it in the raw rows."""

    key: str
    label: str
    command: tuple[str, ...]
    folder: Path = ROOT
    environment: Mapping[str, str] = field(default_factory=dict)
    counter: str = ""  # the metric of a server that does all of our work, telemetry included

    @property
    def is_service(self) -> bool:
        """Whether it is the service or a variant of it."""
        return "WEB_CONCURRENCY" in self.environment


def _service(
    key: str,
    label: str,
    *,
    command: tuple[str, ...] = SERVICE,
    variables: Mapping[str, str] = MappingProxyType({}),
    counter: str = "",
) -> Subject:
    environment = {
        "ENVIRONMENT": "production",
        "JWT_SECRET": JWT_SECRET,
        "REDIS_URL": "",
        "RATE_LIMIT_ENABLED": "true",
        "WEB_CONCURRENCY": "2",
        "DRAIN_SECONDS": "0",  # matters at the end only
        **SAMPLED,
    }
    return Subject(
        key=key,
        label=label,
        command=command,
        environment={**environment, **variables},
        counter=counter,
    )


def _peer(key: str, label: str, program: str, *arguments: str, counter: str = "") -> Subject:
    return Subject(
        key=key,
        label=label,
        command=(str(ENVIRONMENTS / key / "bin" / program), *arguments),
        folder=PEERS / key,
        environment={"EQUAL_WORK": "yes", **SAMPLED} if counter else {},
        counter=counter,
    )


_GUNICORN = ("gunicorn", "--config", str(PEERS / "gunicorn_settings.py"))
_REQUESTS = "http_requests_total"

OURS = _service("ours", "this service", counter=_REQUESTS)
TWIN = _service("twin", "this service, a second time", counter=_REQUESTS)
NOT_EXPORTING = _service(
    "not_exporting", "this service, export and log lines off", variables=NOT_EXPORTED
)
SILENT = _service(
    "silent",
    "this service, all telemetry taken out",
    command=(PYTHON, "-m", "benchmarks.silent"),
    variables=NOT_EXPORTED,
)
FASTAPI = _peer(
    "fastapi_sqlalchemy",
    "FastAPI, SQLAlchemy async, uvicorn",
    *("uvicorn", "main:app", "--workers", "2", "--no-access-log", "--log-level", "warning"),
)
FASTAPI_EQUAL = _peer(
    "fastapi_equal",
    "FastAPI, equal work",
    *("uvicorn", "main:app", "--workers", "2", "--log-config", "log_config.json"),
    counter=_REQUESTS,
)
DJANGO = _peer("django_plain", "Django view, gunicorn", *_GUNICORN, "django_plain.main:application")
DJANGO_EQUAL = _peer(
    "django_equal",
    "Django view, equal work",
    *("gunicorn", "--config", "gunicorn_equal.py", "main:application"),
    counter="django_http_responses_total_by_status_total",
)
WSGI = _peer("wsgi_psycopg2", "bare WSGI, psycopg2, gunicorn", *_GUNICORN, "main:application")
ARTICLE = _peer("article", "development server, ORM, all instrumentation", "python", "main.py")
BARE_FLASK = _peer("flask_bare", "bare Flask, gunicorn", *_GUNICORN, "main:app")
GRANIAN = _service(
    "granian",
    "this service on granian",
    command=(
        str(ENVIRONMENTS / "granian" / "bin" / "granian"),
        *("--interface", "wsgi", "--factory", "--workers", "2", "--blocking-threads", "20"),
        *("--no-log", "--working-dir", str(PEERS / "granian"), "main:create_app"),
    ),
)

WITH_DATABASE = (
    *(OURS, TWIN, NOT_EXPORTING, SILENT),
    *(FASTAPI, FASTAPI_EQUAL, DJANGO, DJANGO_EQUAL, WSGI, ARTICLE, GRANIAN),
)
