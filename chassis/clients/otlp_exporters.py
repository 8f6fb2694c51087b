"""The exporters of spans and metrics, as OTEL_* variables want them; loads only what is used."""

from __future__ import annotations

import importlib
import os
from datetime import timedelta
from functools import partial
from typing import Any

from chassis.telemetry.otel_variables import find

_CLASSES = {"traces": "OTLPSpanExporter", "metrics": "OTLPMetricExporter"}
# A call without a time limit of its own has this one; the exporters always say theirs.
_TIMEOUT = timedelta(seconds=10)


def is_exported(signal: str) -> bool:
    """Tell whether the environment names a destination for a signal: traces or metrics."""
    if os.environ.get("OTEL_SDK_DISABLED") == "true":
        return False
    if exporters := os.environ.get(f"OTEL_{signal.upper()}_EXPORTER"):
        return "otlp" in exporters.split(",")
    return bool(find(signal, "ENDPOINT"))


def exporter_module(signal: str) -> str:
    """Return the module that exports a signal; only the chosen protocol's is ever imported."""
    package = "grpc" if _is_grpc(signal) else "http"
    return f"opentelemetry.exporter.otlp.proto.{package}.{signal.removesuffix('s')}_exporter"


def make_exporter(signal: str, agent: str) -> Any:
    """Make the exporter of a signal; it connects when it is first used.

    Args:
        signal: traces or metrics.
        agent: The caller's name, for User-Agent.
    """
    make = getattr(importlib.import_module(exporter_module(signal)), _CLASSES[signal])
    if _is_grpc(signal):
        return make(compression=_grpc_compression(signal))
    from chassis.clients.http_client import HttpClient  # noqa: PLC0415 - only when exported
    from chassis.clients.otlp import OtlpTransport, trust  # noqa: PLC0415 - only when exported

    files = {
        name.lower(): find(signal, name)
        for name in ("CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY")
    }
    client = HttpClient(timeout=_TIMEOUT, agent=agent, trust=partial(trust, **files))
    # A private parameter, but the public one takes no other transport than that of `requests`.
    return make(_transport=OtlpTransport(client))


def _is_grpc(signal: str) -> bool:
    return find(signal, "PROTOCOL") == "grpc"


def _grpc_compression(signal: str) -> Any:
    """Return gRPC's own value; its exporter refuses `none`, which is a standard one."""
    from grpc import Compression  # noqa: PLC0415 - slow to load

    is_packed = find(signal, "COMPRESSION") == "gzip"
    return Compression.Gzip if is_packed else Compression.NoCompression
