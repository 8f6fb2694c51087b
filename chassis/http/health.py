"""Probes: /health says alive, /ready says able to serve, /version says what runs."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from functools import partial
from http import HTTPStatus
from typing import Literal

from flask import Blueprint, Response
from opentelemetry.instrumentation.utils import suppress_instrumentation

from chassis.backing_services import BackingServices
from chassis.errors import Unavailable
from chassis.http.auth import public
from chassis.http.context import web_context
from chassis.http.operation import PROBES, Operation
from chassis.http.web import json_response
from chassis.schemas import Schema
from chassis.storage import migrations
from chassis.storage.failures import ReadOnly, SchemaBehind

logger = logging.getLogger(__name__)
TAGS = {PROBES: "Questions of the platform that runs the service."}
blueprint = Blueprint("health", __name__)

CHECKS = ("database", "redis", "external_apis")
CACHE_SECONDS = 1.0
STOPPING = "stopping"


class Health(Schema):
    """The process is alive."""

    status: Literal["healthy"] = "healthy"
    version: str
    environment: str
    timestamp: datetime


class Checks(Schema):
    """The attached resources that answered; true for those that are not configured."""

    database: bool
    redis: bool
    external_apis: bool


class Ready(Schema):
    """Whether the process can serve: degraded means without something optional."""

    status: Literal["ready", "degraded", "not_ready"]
    checks: Checks
    reasons: list[str]
    timestamp: datetime


class Version(Schema):
    """The release that runs."""

    service: str
    version: str
    build_id: str
    environment: str


class Readiness:
    """Round trips to the attached resources, side by side and at most once a second.

    Args:
        checks: Name -> a call that raises Unavailable; None if the resource is not configured.
        required: Names of the checks without which the process cannot serve.
        timeout: How long a check may take before it counts as failed.
    """

    def __init__(
        self,
        checks: Mapping[str, Callable[[], None]],
        *,
        required: frozenset[str],
        timeout: timedelta,
    ) -> None:
        self._checks = checks
        self._required = required
        self._timeout_seconds = timeout.total_seconds()
        self._running: dict[str, threading.Thread] = {}
        self._lock = threading.Lock()
        self._failed: frozenset[str] = frozenset()
        self._valid_until = 0.0
        self._is_stopping = False

    def stop(self) -> None:
        """Report not ready from now on: the process is about to end. Safe in a signal handler."""
        self._is_stopping = True

    def failed(self) -> frozenset[str]:
        """Return the names of the checks that fail."""
        if self._is_stopping:
            return frozenset({STOPPING})
        with self._lock:
            if time.monotonic() >= self._valid_until:
                self._failed = self._run()
                self._valid_until = time.monotonic() + CACHE_SECONDS
            return self._failed

    def is_ready(self, failed: frozenset[str]) -> bool:
        """Tell whether the process can serve without the failed resources."""
        return not failed & (self._required | {STOPPING})

    def _run(self) -> frozenset[str]:
        passed: set[str] = set()
        for name, check in self._checks.items():
            # A check that still hangs has failed, and a second one would hang as well.
            if not (name in self._running and self._running[name].is_alive()):
                thread = threading.Thread(target=_try, args=(name, check, passed), daemon=True)
                self._running[name] = thread
                thread.start()
        deadline = time.monotonic() + self._timeout_seconds
        for thread in self._running.values():
            thread.join(max(0.0, deadline - time.monotonic()))
        return frozenset(self._checks) - passed


def make_readiness(
    services: BackingServices, *, required: frozenset[str], timeout: timedelta
) -> Readiness:
    """Check the attached resources, that the schema is not behind, and that writes are taken."""
    database = services.database
    checks = services.pings() | {
        "schema": partial(
            _unless_away, partial(migrations.require_current, database), SchemaBehind
        ),
        "read_only": partial(_unless_away, database.require_writable, ReadOnly),
    }
    # Without the database itself being required, one that only reads is no reason, either.
    implied = {"schema", "read_only"} if "database" in required else {"schema"}
    return Readiness(checks, required=required | implied, timeout=timeout)


def _unless_away(require: Callable[[], None], failure: type[Unavailable]) -> None:
    """Let a check fail for its own reason only: that there is no answer, another one says."""
    try:
        require()
    except failure:
        raise
    except Unavailable:
        return


def _try(name: str, check: Callable[[], None], passed: set[str]) -> None:
    try:
        with suppress_instrumentation():  # a probe's round trips belong to no trace
            check()
    except Unavailable as error:
        logger.warning(
            "Readiness check failed",
            extra={"check": name, "error_type": type(error.__cause__ or error).__name__},
        )
    except Exception:
        logger.exception("Readiness check broke", extra={"check": name})
    else:
        passed.add(name)


@blueprint.get("/health")
@public
@Operation("Tell whether the process is alive", returns={200: Health}, tag=PROBES)
def get_health() -> Response:
    """Touches nothing outside the process, so that a broken database restarts no pod."""
    about = web_context().about
    now = datetime.now(UTC)
    return json_response(
        Health(version=about.version, environment=about.environment, timestamp=now)
    )


@blueprint.get("/ready")
@public
@Operation("Tell whether the process can serve", returns={200: Ready, 503: Ready}, tag=PROBES)
def get_ready() -> Response:
    """Makes a round trip to each attached resource, at most once a second."""
    readiness = web_context().readiness
    failed = readiness.failed()
    ready = readiness.is_ready(failed)
    answer = Ready(
        status="not_ready" if not ready else "degraded" if failed else "ready",
        checks=Checks(**{name: name not in failed for name in CHECKS}),
        reasons=sorted(failed),
        timestamp=datetime.now(UTC),
    )
    return json_response(answer, HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE)


@blueprint.get("/version")
@public
@Operation("Tell what runs", returns={200: Version}, tag=PROBES)
def get_version() -> Response:
    """Version, build and environment, as the image and the deployment set them."""
    return json_response(Version(**asdict(web_context().about)))
