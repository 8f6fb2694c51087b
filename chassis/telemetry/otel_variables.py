"""OTEL_* variables: a value that cannot be used is left out and reported, never fatal.

OpenTelemetry's libraries read their variables by themselves, some while they are imported, and
some end the process when a value is wrong. So this module runs before all of them and leaves
them nothing that they stumble over.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, MutableMapping
from typing import NamedTuple

from chassis.settings.kinds import Kind, choice, integer, text
from chassis.telemetry.otel_kinds import (
    LARGEST,
    PartlyAccepted,
    decimal,
    grpc_endpoint,
    http_endpoint,
    names,
    pairs,
    patterns,
    ratio,
    readable_file,
)

logger = logging.getLogger(__name__)

SIGNALS = ("TRACES", "METRICS")
RATIO_SAMPLERS = ("traceidratio", "parentbased_traceidratio")
BATCH, QUEUE = "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "OTEL_BSP_MAX_QUEUE_SIZE"
DEFAULT_BATCH, DEFAULT_QUEUE = 512, 2048
# An export takes no longer than this, in seconds. Elsewhere the unit is the millisecond: 10000 is
# meant as 10 seconds, and would be three hours.
LONGEST_EXPORT = 3600

_TRUTH = choice("true", "false")
_NUMBER = integer(1, LARGEST)
_LIMIT = integer(0, LARGEST)
_FILE = readable_file()

# OTEL_EXPORTER_OTLP_<this>, and OTEL_EXPORTER_OTLP_<signal>_<this>.
_EXPORTER = {
    "PROTOCOL": choice("http/protobuf", "grpc"),
    "COMPRESSION": choice("none", "gzip", "deflate"),
    "HEADERS": pairs(are_headers=True),
    "TIMEOUT": decimal(0, LONGEST_EXPORT, "a number of seconds"),
    "INSECURE": _TRUTH,
    "CERTIFICATE": _FILE,
    "CLIENT_CERTIFICATE": _FILE,
    "CLIENT_KEY": _FILE,
}
_SAMPLERS = ("always_on", "always_off", "parentbased_always_on", "parentbased_always_off")
_CAPTURE = "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_"
_KINDS: dict[str, Kind] = {
    "OTEL_SDK_DISABLED": _TRUTH,
    "OTEL_SERVICE_NAME": text(),
    "OTEL_RESOURCE_ATTRIBUTES": pairs(are_headers=False),
    "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": names(
        "host", "os", "otel", "process", "service_instance"
    ),
    "OTEL_PROPAGATORS": names("tracecontext", "baggage", "b3", "b3multi"),
    "OTEL_TRACES_EXPORTER": names("otlp"),
    "OTEL_METRICS_EXPORTER": names("otlp", "prometheus"),
    "OTEL_TRACES_SAMPLER": choice(*_SAMPLERS, *RATIO_SAMPLERS),
    "OTEL_TRACES_SAMPLER_ARG": ratio(),
    "OTEL_BSP_SCHEDULE_DELAY": _NUMBER,
    QUEUE: _NUMBER,
    BATCH: _NUMBER,
    "OTEL_METRIC_EXPORT_INTERVAL": _NUMBER,
    "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": choice("cumulative", "delta", "lowmemory"),
    "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION": choice("explicit_bucket_histogram"),
    "OTEL_ATTRIBUTE_COUNT_LIMIT": _LIMIT,
    "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": _LIMIT,
    "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": _LIMIT,
    "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT": _LIMIT,
    "OTEL_SPAN_EVENT_COUNT_LIMIT": _LIMIT,
    "OTEL_SPAN_LINK_COUNT_LIMIT": _LIMIT,
    "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT": _LIMIT,
    "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT": _LIMIT,
    f"{_CAPTURE}SERVER_REQUEST": patterns(),
    f"{_CAPTURE}SERVER_RESPONSE": patterns(),
    f"{_CAPTURE}SANITIZE_FIELDS": patterns(),
    **{
        f"OTEL_EXPORTER_OTLP_{signal}{name}": kind
        for signal in ("", *(f"{each}_" for each in SIGNALS))
        for name, kind in _EXPORTER.items()
    },
}

_TO_STDOUT = "log lines go to stdout, and not over OTLP"
_BOUNDED = "OTEL_EXPORTER_OTLP_TIMEOUT bounds an export"
_ONLY_OTLP = "telemetry leaves by OTLP, or is read from /metrics"
_FIXED = "this service chooses its own"
# Beginning of a name -> why such variables have no effect.
_WITHOUT_EFFECT = {
    "OTEL_LOGS_EXPORTER": _TO_STDOUT,
    "OTEL_BLRP_": _TO_STDOUT,
    "OTEL_LOGRECORD_": _TO_STDOUT,
    "OTEL_EXPORTER_OTLP_LOGS_": _TO_STDOUT,
    "OTEL_BSP_EXPORT_TIMEOUT": _BOUNDED,
    "OTEL_METRIC_EXPORT_TIMEOUT": _BOUNDED,
    "OTEL_METRICS_EXEMPLAR_FILTER": "metrics have no exemplars",
    "OTEL_LOG_LEVEL": "LOG_LEVEL sets the level",
    "OTEL_CONFIG_FILE": "variables configure telemetry, and no file",
    "OTEL_EXPORTER_ZIPKIN_": _ONLY_OTLP,
    "OTEL_EXPORTER_JAEGER_": _ONLY_OTLP,
    "OTEL_EXPORTER_PROMETHEUS_": _ONLY_OTLP,
    "OTEL_PYTHON_": _FIXED,
}
# Exceptions from these: they have an effect, or ask for what is the case.
_EFFECTIVE = "OTEL_PYTHON_INSTRUMENTATION_HTTP_CAPTURE_ALL_METHODS"
_AGREED = {"OTEL_LOGS_EXPORTER": "none", "OTEL_METRICS_EXEMPLAR_FILTER": "always_off"}


class Complaint(NamedTuple):
    """A variable that is not used as it stands; `accepts` is empty where no value would be."""

    variable: str
    accepts: str = ""
    reason: str = ""


_complaints: list[Complaint] = []
_reported: list[Complaint] = []


def settle(environ: MutableMapping[str, str] | None = None) -> list[Complaint]:
    """Leave OTEL_* variables out that have no effect, or a value that cannot be used.

    Of a list only those members are left out that cannot be used. An empty value counts as not
    set. The complaints are returned; those about this process's own variables are also kept for
    `report`.
    """
    variables = os.environ if environ is None else environ
    variables.setdefault("OTEL_SEMCONV_STABILITY_OPT_IN", "http,database")
    variables.setdefault("GRPC_VERBOSITY", "NONE")  # its core writes to stderr past our logs
    found = [*_without_effect(variables), *_unusable(variables), *_contradictory(variables)]
    if environ is None:
        _complaints.extend(found)
    return found


def report() -> None:
    """Log each complaint once; call this when logging is set up."""
    while _complaints:
        _reported.append(_complaints.pop(0))
        variable, accepts, reason = _reported[-1]
        if accepts:
            logger.warning("%s must be %s; other values are left out", variable, accepts)
        else:
            logger.warning("%s has no effect: %s", variable, reason)


def complained_of() -> list[str]:
    """Return the variables of this process that are not used as they stood, reported or not."""
    return sorted({each.variable for each in (*_reported, *_complaints)})


def find(signal: str, name: str, variables: Mapping[str, str] | None = None) -> str:
    """Return a signal's own setting of its exporter, or that of all signals, or an empty text."""
    given = os.environ if variables is None else variables
    own = given.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_{name}")
    return own or given.get(f"OTEL_EXPORTER_OTLP_{name}", "")


def _without_effect(variables: MutableMapping[str, str]) -> Iterator[Complaint]:
    for variable in sorted(variables):
        reasons = [why for start, why in _WITHOUT_EFFECT.items() if variable.startswith(start)]
        if not reasons or variable == _EFFECTIVE:
            continue
        value = variables.pop(variable).strip()
        if value and value.lower() != _AGREED.get(variable):
            yield Complaint(variable, reason=reasons[0])


def _unusable(variables: MutableMapping[str, str]) -> Iterator[Complaint]:
    for variable, kind in _KINDS.items():
        yield from _check(variables, variable, kind)
    for variable, kind in _endpoints(variables).items():
        yield from _check(variables, variable, kind)


def _endpoints(variables: Mapping[str, str]) -> dict[str, Kind]:
    """Return the kinds of the endpoints, which depend on the protocols."""
    base = variables.get("OTEL_EXPORTER_OTLP_PROTOCOL") == "grpc"
    kinds = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": grpc_endpoint() if base else http_endpoint(is_base=True)
    }
    for signal in SIGNALS:
        is_grpc = find(signal, "PROTOCOL", variables) == "grpc"
        kind = grpc_endpoint() if is_grpc else http_endpoint(is_base=False)
        kinds[f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT"] = kind
    return kinds


def _check(variables: MutableMapping[str, str], variable: str, kind: Kind) -> Iterator[Complaint]:
    given = variables.pop(variable, "").strip()
    if not given:
        return
    try:
        given.encode()  # bytes that are no text would break the protocol's messages
        variables[variable] = str(kind.parse(given))
    except PartlyAccepted as error:
        variables[variable] = error.rest
        yield Complaint(variable, kind.accepts)
    except ValueError:
        yield Complaint(variable, kind.accepts)
        if kind is _FILE:
            _stop_exports(variables, variable)


def _stop_exports(variables: MutableMapping[str, str], certificate: str) -> None:
    """Export nothing where a certificate is asked for and missing, rather than without it."""
    own = [signal for signal in SIGNALS if f"_{signal}_" in certificate]
    for signal in own or SIGNALS:
        variables[f"OTEL_{signal}_EXPORTER"] = "none"


def _contradictory(variables: MutableMapping[str, str]) -> Iterator[Complaint]:
    """Check what each value alone does not show."""
    queue = int(variables.get(QUEUE, DEFAULT_QUEUE))
    if int(variables.get(BATCH, DEFAULT_BATCH)) > queue:
        if BATCH in variables:
            yield Complaint(BATCH, f"at most {queue}, which is {QUEUE}")
        variables[BATCH] = str(min(DEFAULT_BATCH, queue))
    is_ratio = variables.get("OTEL_TRACES_SAMPLER") in RATIO_SAMPLERS
    if not is_ratio and variables.pop("OTEL_TRACES_SAMPLER_ARG", None) is not None:
        reason = f"it needs OTEL_TRACES_SAMPLER to be {' or '.join(RATIO_SAMPLERS)}"
        yield Complaint("OTEL_TRACES_SAMPLER_ARG", reason=reason)
    yield from _uncompressed(variables)


def _uncompressed(variables: MutableMapping[str, str]) -> Iterator[Complaint]:
    """Leave a compression out that gRPC's exporter does not have; it would end the process."""
    for signal in ("", *(f"{each}_" for each in SIGNALS)):
        variable = f"OTEL_EXPORTER_OTLP_{signal}COMPRESSION"
        is_grpc = find(signal.strip("_"), "PROTOCOL", variables) == "grpc"
        if is_grpc and variables.get(variable) == "deflate":
            del variables[variable]
            yield Complaint(variable, "none or gzip with gRPC")
