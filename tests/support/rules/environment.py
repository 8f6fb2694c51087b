"""Rules about variables: that each process accepts its own, and gets secrets from the Secret."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields
from typing import Any
from urllib.parse import urlsplit

from chassis.settings.variables import ConfigError
from chassis.telemetry.otel_variables import settle
from config import AppConfig
from tests.support.kustomize import Object, find, pod_specs
from tests.support.manifests import ROOT, name, of_kind, walk
from tests.support.rules.pods import Ours, amount, ours

CONFIG = "cloudnative-app-config"
PRODUCED = "cloudnative-app"  # the namespace of the overlay for production
SETTINGS = {each.name.upper(): each for each in fields(AppConfig)}
SECRET = {variable for variable, each in SETTINGS.items() if each.metadata["secret"]}
FILES = {f"{variable}_FILE" for variable in SECRET}
# The values for `kubectl create secret`, see docs/operations.md.
SECRETS = {
    "API_KEY": "k" * 32,
    "JWT_SECRET": "s" * 32,
    "DATABASE_URL": "postgresql://app:password@postgresql:5432/app",
    "REDIS_URL": "redis://redis:6379",
}
SECRET_KEYS = {"postgresql": {"password"}}
FIELDS = {
    "POD_NAME": "metadata.name",
    "POD_NAMESPACE": "metadata.namespace",
    "NODE_NAME": "spec.nodeName",
}
# All else is for all processes, and in the ConfigMap.
OWN = {*FIELDS, "WORKER_METRICS_PORT", "MANAGEMENT_PORT"}
# Values that hold a secret although no setting of ours does: headers, and passwords within URLs.
CONFIDENTIAL = re.compile(r"(^|_)(HEADERS|TOKEN|PASSWORD|CLIENT_KEY)(=|_)|://[^/@]*:[^/@]+@")
BASE_BYTES = 224 * 2**20  # of a web pod that has been at work; see docs/operations.md
DRAIN_SECONDS = 5
FINISH_SECONDS = 10
# All that production says: each is a decision about security or operation, and another is no slip
# of the pen. Tuples begin a value that is the operator's own.
PRODUCTION: dict[str, str | tuple[str, ...]] = {
    "ENVIRONMENT": "production",
    "LOG_LEVEL": "INFO",
    "LOG_FORMAT": "json",
    "PORT": "8080",
    "WEB_CONCURRENCY": "2",
    "WEB_THREADS": "16",
    "WORKER_CONCURRENCY": "4",
    "DATABASE_POOL_SIZE": "4",
    "DATABASE_MAX_OVERFLOW": "4",
    "REDIS_MAX_CONNECTIONS": "20",
    "READY_REQUIRES": "database",
    "DRAIN_SECONDS": "5",
    "TERMINATION_GRACE_SECONDS": "30",
    "REGISTRATION": "open",
    "RATE_LIMIT_ENABLED": "true",
    "RATE_LIMIT_REGISTRATION": "30/minute",
    "RATE_LIMIT_LOGIN": "10/minute",
    "TRUSTED_PROXY_HOPS": "1",
    "TELEMETRY_PII": "false",
    "PUBLIC_URL": ("https://",),
    "OTEL_EXPORTER_OTLP_ENDPOINT": ("http://", "https://"),
    "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
    "OTEL_TRACES_SAMPLER_ARG": ("0.0",),
}


def settings_of(objects: list[Object]) -> dict[str, Any]:
    """Return the data of the ConfigMap."""
    maps = [
        each
        for each in of_kind(objects, "ConfigMap")
        if each["metadata"]["name"].startswith(CONFIG)
    ]
    return dict(maps[0]["data"]) if maps else {}


def environment(objects: list[Object], container: Object) -> dict[str, str]:
    """Return the variables of a container; what the cluster fills in is made up."""
    given: dict[str, str] = {}
    for source in container["envFrom"]:
        if "configMapRef" in source:
            given |= find(objects, "ConfigMap", source["configMapRef"]["name"])["data"]
        else:
            given |= SECRETS
    return given | {each["name"]: each.get("value", "x") for each in container.get("env", [])}


def sources(objects: list[Object]) -> Iterator[str]:
    """Expect the ConfigMap and then the Secret, whole, so that the Secret's values count."""
    for each in ours(objects):
        kinds = [set(source) for source in each.container.get("envFrom", [])]
        if kinds != [{"configMapRef"}, {"secretRef"}]:
            yield f"{each.at}: envFrom is {kinds}"
        for source in each.container.get("envFrom", []):
            if set(next(iter(source.values()))) != {"name"}:
                yield f"{each.at}: envFrom says more than a name: {source}"


def variables(objects: list[Object]) -> Iterator[str]:
    """Expect variables that the code reads, once each, of fields and keys that exist."""
    for each in ours(objects):
        own = [variable["name"] for variable in each.container.get("env", [])]
        yield from (f"{each.at}: {x} is read by nobody" for x in own if x not in SETTINGS)
        yield from (f"{each.at}: {x} hides the ConfigMap's" for x in own if x not in OWN)
        yield from (
            f"{each.at}: {twice} is there twice" for twice in {x for x in own if own.count(x) > 1}
        )
        for variable in each.container.get("env", []):
            if variable["name"] in SECRET and "value" in variable:
                yield f"{each.at}: {variable['name']} is a secret"
        for variable, field in FIELDS.items() if own else ():
            found = [x.get("valueFrom") for x in each.container["env"] if x["name"] == variable]
            if found != [{"fieldRef": {"fieldPath": field}}]:
                yield f"{each.at}: {variable} is not {field}"
    for owner, template in pod_specs(objects):
        for _, key, value in walk(template["spec"]):
            if key == "secretKeyRef" and value["key"] not in SECRET_KEYS.get(value["name"], ()):
                yield f"{name(owner)}: the Secret {value['name']} has no {value['key']}"


def settings(objects: list[Object]) -> Iterator[str]:
    """Expect plain values of settings, the service's or OpenTelemetry's, and no secret."""
    documented = (ROOT / "docs" / "telemetry.md").read_text(encoding="utf-8")
    given = settings_of(objects)
    for variable, value in given.items():
        is_known = variable in SETTINGS or variable in FILES or f"`{variable}`" in documented
        if variable in SECRET or not is_known:
            yield f"{variable} has no place in the ConfigMap"
        if CONFIDENTIAL.search(f"{variable}={value}"):
            yield f"{variable} holds a secret"
        if not isinstance(value, str) or re.search(r"^[\s\"']|[\s\"']$", value):
            yield f"{variable}: {value!r} has quotes or blanks around it"
    yield from (f"{each.variable}: {each.accepts or each.reason}" for each in settle(dict(given)))
    endpoint = urlsplit(given.get("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318"))
    if not endpoint.hostname or endpoint.scheme not in {"http", "https"}:
        yield f"OTEL_EXPORTER_OTLP_ENDPOINT is no address: {endpoint.geturl()}"


def processes(objects: list[Object]) -> Iterator[str]:
    """Expect each process to accept its variables, and ports and seconds to agree with them."""
    for each in ours(objects):
        try:
            config = AppConfig.from_env(environment(objects, each.container))
        except ConfigError as error:
            yield f"{each.at}: {error}"
            continue
        yield from _seconds(each, config)
        yield from _ports(each, config)
        yield from _memory(each, config)


def _seconds(each: Ours, config: AppConfig) -> Iterator[str]:
    """Expect kubelet to wait as long as the process counts on, with time to drain and to finish."""
    grace = each.template["spec"].get("terminationGracePeriodSeconds", 30)
    expected = config.termination_grace_seconds
    if expected != grace:
        yield f"{each.at}: kubelet waits {grace} s, and the process counts on {expected}"
    budget = config.stop_budget
    if budget.drain_seconds != DRAIN_SECONDS or budget.finish_seconds <= FINISH_SECONDS:
        yield f"{each.at}: drains {budget.drain_seconds} s, finishes in {budget.finish_seconds}"


def _ports(each: Ours, config: AppConfig) -> Iterator[str]:
    """Expect the port of a container to be the one that its process listens on."""
    listens = {"web": config.port, "worker": config.worker_metrics_port}
    if (port := listens.get(each.container["name"])) is None:
        return
    ports = [given["containerPort"] for given in each.container.get("ports", [])]
    if ports != [port]:
        yield f"{each.at}: listens on {port}, and has the ports {ports}"
    probe = each.container.get("readinessProbe", {})
    if each.container["name"] == "web" and config.ready_timeout_seconds >= probe.get(
        "timeoutSeconds", 0
    ):
        yield f"{each.at}: the probe gives up before the check that it waits for"


def _memory(each: Ours, config: AppConfig) -> Iterator[str]:
    """Expect room for all passwords that are hashed at a time, beside the processes themselves."""
    if config.bind_address:
        yield f"{each.at}: nobody outside of the pod reaches {config.bind_address}"
    hashes = config.web_concurrency * config.password_concurrency
    needed = hashes * config.password_memory_kib * 1024 + BASE_BYTES
    limit = amount(each.container["resources"]["limits"]["memory"])
    if each.container["name"] == "web" and needed > limit:
        yield f"{each.at}: {hashes} hashes at a time need {needed} bytes of {limit}"


def _is_production(objects: list[Object]) -> bool:
    return [each["metadata"]["name"] for each in of_kind(objects, "Namespace")] == [PRODUCED]


def production_values(objects: list[Object]) -> Iterator[str]:
    """Expect the values of production that somebody decided on."""
    given = settings_of(objects)
    if not _is_production(objects):
        return
    for variable in given.keys() ^ PRODUCTION.keys():
        yield f"{variable} is missing, or nobody has decided on it"
    for variable, value in given.items():
        expected = PRODUCTION.get(variable, value)
        if value != expected and not (isinstance(expected, tuple) and value.startswith(expected)):
            yield f"{variable} is {value} in production, not {expected}"


def connections(objects: list[Object]) -> Iterator[str]:
    """Expect the sum of connections that docs/operations.md asks PostgreSQL for."""
    needed = needed_connections(objects)
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    if _is_production(objects) and f"= {needed} connections" not in page:
        yield f"{needed} connections are not what docs/operations.md asks for"


def needed_connections(objects: list[Object]) -> int:
    """Return the largest number of connections that an overlay opens, during a rollout."""
    given = settings_of(objects)
    each_process = int(given["DATABASE_POOL_SIZE"]) + int(given["DATABASE_MAX_OVERFLOW"])
    rollout = 1 + 2  # maxSurge, and as many again as maxSurge and maxUnavailable, still stopping
    scalers = of_kind(objects, "HorizontalPodAutoscaler")
    pods = sum(scaler["spec"]["maxReplicas"] for scaler in scalers) + rollout
    workers = find(objects, "Deployment", "cloudnative-app-worker")["spec"]["replicas"] + rollout
    needed = (pods * int(given["WEB_CONCURRENCY"]) + workers) * each_process
    return int(needed + 2 * 2)  # one migration waits with two connections, one cleanup likewise


RULES = [sources, variables, settings, processes, production_values, connections]
