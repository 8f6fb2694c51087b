"""Rules about examples: monitors, ways in, secrets and PgBouncer, beside what they refer to."""

from __future__ import annotations

import configparser
import re
from collections.abc import Callable, Iterator

import yaml

from app import create_app
from config import AppConfig
from tests.support.kustomize import Object
from tests.support.manifests import ROOT, matches, name, of_kind, ports_of
from tests.support.rules.environment import SECRETS
from tests.support.rules.network import INGRESS, NAMESPACE, Party, Way, pods_of, reaches

# For the cluster, not for the world.
INTERNAL = {"/metrics", "/health", "/ready", "/version"}
BY_PROVIDER = {"EMAIL_SERVICE_URL"}  # without it no e-mail is sent
PGBOUNCER = {
    "listen_port": "5432",
    "pool_mode": "transaction",
    "ignore_startup_parameters": "options",
    "auth_type": "scram-sha-256",
    "server_tls_sslmode": "require",
}


def jobs_of_alerts() -> set[str]:
    """Return the scrape jobs that the alerts select."""
    text = (ROOT / "monitoring" / "alerts.yaml").read_text(encoding="utf-8")
    return set(re.findall(r'(?<!\w)job="([\w-]+)"', text)) - {"kube-state-metrics"}


def published() -> set[str]:
    """Return the first parts of the paths that the world may ask for."""
    rules = create_app(AppConfig(redis_url="")).url_map.iter_rules()
    return {f"/{each.rule.split('/')[1]}" for each in rules} - INTERNAL - {"/"}


def monitors(production: list[Object], example: list[Object]) -> Iterator[str]:
    """Expect monitors to find pods and ports, under the jobs that the alerts select."""
    jobs = set()
    for each in of_kind(example, "ServiceMonitor"):
        found = [
            service
            for service in of_kind(production, "Service")
            if matches(each["spec"]["selector"], service["metadata"].get("labels", {}))
        ]
        jobs |= {service["metadata"]["name"] for service in found}
        names = {port["name"] for service in found for port in service["spec"]["ports"]}
        yield from _endpoints(each, each["spec"]["endpoints"], names)
    for each in of_kind(example, "PodMonitor"):
        names, _ = ports_of(production, each["spec"]["selector"])
        endpoints = each["spec"]["podMetricsEndpoints"]
        relabelings = [rule for endpoint in endpoints for rule in endpoint.get("relabelings", [])]
        jobs |= {rule["replacement"] for rule in relabelings if rule["targetLabel"] == "job"}
        yield from _endpoints(each, endpoints, names)
    if of_kind(example, "ServiceMonitor") and jobs != jobs_of_alerts():
        yield f"jobs are {sorted(jobs)}, and alerts select {sorted(jobs_of_alerts())}"


def _endpoints(monitor: Object, endpoints: list[Object], names: set[str]) -> Iterator[str]:
    for each in endpoints:
        if each["port"] not in names or each["path"] != "/metrics":
            yield f"{name(monitor)}: {each['port']}{each['path']} is nowhere; there are {names}"


def ways_in(production: list[Object], example: list[Object]) -> Iterator[str]:
    """Expect backends that exist, and all paths but those for the cluster."""
    for each in of_kind(example, "Ingress"):
        paths = [path for rule in each["spec"]["rules"] for path in rule["http"]["paths"]]
        backends = [path["backend"]["service"] for path in paths]
        targets = {(backend["name"], backend["port"].get("name")) for backend in backends}
        yield from _way_in(each, targets, {path["path"] for path in paths}, production)
    for each in of_kind(example, "HTTPRoute"):
        rules = each["spec"]["rules"]
        targets = {
            (backend["name"], backend["port"]) for rule in rules for backend in rule["backendRefs"]
        }
        asked = {match["path"]["value"] for rule in rules for match in rule["matches"]}
        yield from _way_in(each, targets, asked, production)
        parents = {parent["namespace"] for parent in each["spec"]["parentRefs"]}
        if parents != {INGRESS.namespace}:
            yield f"{name(each)}: no NetworkPolicy lets {parents} in"


def _way_in(
    each: Object, targets: set[tuple[str, object]], paths: set[str], production: list[Object]
) -> Iterator[str]:
    known = {
        (service["metadata"]["name"], port[key])
        for service in of_kind(production, "Service")
        for port in service["spec"]["ports"]
        for key in ("name", "port")
    }
    yield from (f"{name(each)}: there is no {target}" for target in targets - known)
    yield from (f"{name(each)}: {path} is published or left out" for path in paths ^ published())


def external_secrets(_production: list[Object], example: list[Object]) -> Iterator[str]:
    """Expect all that pods read from the Secret."""
    for each in of_kind(example, "ExternalSecret"):
        keys = {data["secretKey"] for data in each["spec"]["data"]}
        for missing in (SECRETS.keys() | BY_PROVIDER) - keys:
            yield f"{name(each)}: {missing} is not brought"


def pgbouncer(_production: list[Object], example: list[Object]) -> Iterator[str]:
    """Expect the settings that the service needs, and the port that DATABASE_URL names."""
    for each in of_kind(example, "ConfigMap"):
        if text := each["data"].get("pgbouncer.ini"):
            parser = configparser.ConfigParser()
            parser.read_string(text)
            given = dict(parser["pgbouncer"])
            for key, value in PGBOUNCER.items():
                if given.get(key) != value:
                    yield f"pgbouncer.ini: {key} is {given.get(key)}, not {value}"
            (service,) = (one for one in example if one["kind"] == "Service")
            if [port["port"] for port in service["spec"]["ports"]] != [5432]:
                yield f"{name(service)}: DATABASE_URL names the port 5432"


def callers(production: list[Object], example: list[Object]) -> Iterator[str]:
    """Expect the caller that a policy names to be let in, and no other pod of its namespace."""
    for each in of_kind(example, "NetworkPolicy"):
        if each["metadata"]["name"] != "cloudnative-app-callers":
            continue
        (peer,) = each["spec"]["ingress"][0]["from"]
        namespace = peer["namespaceSelector"]["matchLabels"][NAMESPACE]
        labels = tuple(peer["podSelector"]["matchLabels"].items())
        web = pods_of(production)["web"]
        policies = of_kind([*production, *example], "NetworkPolicy")
        if not reaches(policies, Way(Party("a caller", namespace, labels), web, 8080)):
            yield f"{name(each)}: does not let its caller in"
        if reaches(policies, Way(Party("its neighbour", namespace), web, 8080)):
            yield f"{name(each)}: lets all of {namespace} in"


def compose_jobs(prometheus: Object) -> Iterator[str]:
    """Expect Prometheus of compose.yaml to scrape under the jobs that the alerts select."""
    jobs = {each["job_name"] for each in prometheus["scrape_configs"]}
    if jobs != jobs_of_alerts():
        yield f"jobs are {sorted(jobs)}, and alerts select {sorted(jobs_of_alerts())}"


def compose_prometheus() -> Object:
    """Return the configuration of Prometheus in compose.yaml."""
    file = ROOT / "monitoring" / "compose" / "prometheus.yaml"
    found: Object = yaml.safe_load(file.read_text(encoding="utf-8"))
    return found


RULES: list[Callable[[list[Object], list[Object]], Iterator[str]]] = [
    monitors,
    ways_in,
    external_secrets,
    pgbouncer,
    callers,
]
