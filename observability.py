"""The SDK side of telemetry: logs, spans and metrics leave the process without delaying it."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

from opentelemetry import trace

from chassis.clients.otlp_exporters import exporter_module, is_exported, make_exporter
from chassis.once import once_property
from chassis.process.stop import FLUSH_SECONDS
from chassis.telemetry import (
    instrumentation,
    instruments,
    log_level,
    otel_variables,
    propagation,
    statements,
    tracing,
)
from chassis.telemetry.log_output import LineHandler
from chassis.telemetry.logs import (
    TEXT_FORMAT,
    ComplaintFilter,
    JsonFormatter,
    TextFormatter,
)
from chassis.telemetry.otel_variables import find
from userservice import SERVICE_NAME

if TYPE_CHECKING:
    from flask import Flask
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from sqlalchemy import Engine

    from config import AppConfig

T = TypeVar("T")

PUSH_MILLISECONDS = 30_000

logger = logging.getLogger(__name__)

# Libraries whose detailed lines quote data, which may be personal or secret.
QUIETED = ("alembic", "dramatiq", "urllib3", "sqlalchemy", "redis", "limits")
# Parsers whose complaints quote a caller's headers. With them, any caller could also use up the
# one complaint a minute that a library has.
MUTED = (
    "opentelemetry.baggage.propagation",
    "opentelemetry.trace.propagation.tracecontext",
    "opentelemetry.trace.span",
)


def setup_logging(config: AppConfig, stream: TextIO | None) -> None:
    """Send every logger's records to `stream`, replacing an earlier set-up."""
    handler = LineHandler(stream)
    handler.addFilter(ComplaintFilter())
    handler.setFormatter(_formatter(config, stream))
    root = logging.getLogger()
    for earlier in root.handlers:
        if isinstance(earlier, LineHandler):
            earlier.close()
    root.handlers[:] = [handler]
    set_level(log_level.choose(config.log_level))
    logging.captureWarnings(capture=True)
    # No line shows these fields, and each record would look them up.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    vars(logging)["logAsyncioTasks"] = False  # exists from Python 3.12 on
    for name in MUTED:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    otel_variables.report()


def set_level(level: str) -> None:
    """Let records of this level and above be written; those of some libraries from WARNING on."""
    root = logging.getLogger()
    root.setLevel(level)
    for name in QUIETED:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


def follow_level(config: AppConfig) -> None:
    """Have this process log at the level that holds now, which somebody may have switched."""
    log_level.apply(config.log_level, set_level)


class Telemetry:
    """The telemetry that one process exports. Made after the fork, closed last.

    Without an endpoint no telemetry is exported and no SDK is loaded, but requests get ids.
    """

    def __init__(self, config: AppConfig) -> None:
        self._config = config
        self._closing: list[Callable[[], object]] = []
        self._routes: dict[str, str] = {}
        instruments.prepare_process(config.app_version, config.build_id, config.environment.value)
        tracing.allow_personal_data(allowed=config.telemetry_pii)
        propagation.install(os.environ.get("OTEL_PROPAGATORS", ""))
        instrumentation.trace_clients(exported=is_exported("traces"))
        self.provider = _try(self.setup_tracing) if is_exported("traces") else None
        if is_exported("metrics"):
            _try(self.setup_metrics)

    def instrument(self, app: Flask, engine: Engine) -> None:
        """Learn the routes of an application, and trace its statements."""
        self._routes.update({rule.endpoint: rule.rule for rule in app.url_map.iter_rules()})
        if self.provider is not None:
            statements.trace_statements(engine)

    def setup_tracing(self) -> TracerProvider:
        """Export spans in batches, from a thread of their own; OTEL_* variables say where."""
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 - only when exported
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

        from chassis.http.server_span import AskedIdGenerator  # noqa: PLC0415
        from chassis.telemetry.sampling import AskedSampler  # noqa: PLC0415

        provider = TracerProvider(
            resource=self._resource, id_generator=AskedIdGenerator(), shutdown_on_exit=False
        )
        provider.sampler = AskedSampler(provider.sampler)
        provider.add_span_processor(BatchSpanProcessor(make_exporter("traces", SERVICE_NAME)))
        trace.set_tracer_provider(provider)
        self._closing.append(provider.shutdown)
        return provider

    def setup_metrics(self) -> None:
        """Push this process's metrics every OTEL_METRIC_EXPORT_INTERVAL milliseconds."""
        from chassis.telemetry.metric_export import MetricPush  # noqa: PLC0415 - only when exported
        from chassis.telemetry.temporality import Temporality  # noqa: PLC0415 - see above

        interval = os.environ.get("OTEL_METRIC_EXPORT_INTERVAL", PUSH_MILLISECONDS)
        push = MetricPush(
            make_exporter("metrics", SERVICE_NAME),
            self._resource,
            routes=self._routes,
            interval_seconds=int(interval) / 1000,
            temporality=Temporality(find("METRICS", "TEMPORALITY_PREFERENCE") or "cumulative"),
        )
        push.start()
        self._closing.append(push.close)

    def close(self, seconds: float = FLUSH_SECONDS) -> None:
        """Send waiting telemetry, for a bounded time: a dead collector must not delay the exit."""
        threads = [_start_quietly(close) for close in self._closing]
        deadline = time.monotonic() + seconds
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._closing.clear()

    @once_property
    def _resource(self) -> Resource:
        """Describe this process to the collector; the environment's attributes win."""
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource  # noqa: PLC0415

        config = self._config
        given = dict(OTELResourceDetector().detect().attributes)
        ours = {
            "service.name": SERVICE_NAME,
            "service.version": config.app_version,
            "deployment.environment": config.environment.value,
            "deployment.environment.name": config.environment.value,
            "k8s.pod.name": config.pod_name,
            "k8s.namespace.name": config.pod_namespace,
            "k8s.node.name": config.node_name,
        }
        attributes: dict[str, Any] = {name: value for name, value in ours.items() if value} | given
        instance = given.get("service.instance.id") or config.pod_name
        if instance:
            # The workers of a pod have separate counts, which one identity would overwrite.
            attributes["service.instance.id"] = f"{instance}-{os.getpid()}"
        return Resource.create(attributes)


# Signal -> modules that exporting it needs beside the exporter.
_MODULES = {
    "traces": (
        "opentelemetry.sdk.trace.export",
        "chassis.http.server_span",
        "chassis.telemetry.sampling",
    ),
    "metrics": ("chassis.telemetry.metric_export",),
}


def exporting_modules() -> list[str]:
    """Return the modules that exporting imports; imported before the fork, they are shared."""
    exported = [signal for signal in _MODULES if is_exported(signal)]
    exporters = [exporter_module(signal) for signal in exported]
    # An exporter imports its transport when it is made.
    transports = ["chassis.clients.otlp"] if any(".http." in name for name in exporters) else []
    return [*exporters, *transports, *(name for signal in exported for name in _MODULES[signal])]


def _try(setup: Callable[[], T]) -> T | None:
    """Set a part of telemetry up; without it the service still serves."""
    try:
        return setup()
    except Exception:
        logger.exception("Telemetry is not exported")
        return None


def _formatter(config: AppConfig, stream: TextIO | None) -> logging.Formatter:
    is_watched = stream is not None and stream.isatty()
    if config.log_format == "text" or (config.log_format == "auto" and is_watched):
        return TextFormatter(TEXT_FORMAT)
    return JsonFormatter(
        {
            "app_version": config.app_version,
            "build_id": config.build_id,
            "environment": config.environment,
            "service_name": SERVICE_NAME,
            "service_version": config.app_version,
        }
    )


def _start_quietly(function: Callable[[], object]) -> threading.Thread:
    def run() -> None:
        with suppress(Exception):  # the process is about to end
            function()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread
