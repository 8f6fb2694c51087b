"""Rules about examples: monitors, secrets, PgBouncer and mail, beside the objects they refer to."""

from __future__ import annotations

import configparser
import re
from collections.abc import Callable, Iterator

import yaml

from tests.support.kustomize import Object, pod_specs
from tests.support.manifests import ROOT, matches, name, of_kind, ports_of
from tests.support.rules.environment import PRODUCED, SECRET, SECRETS, needed_connections
from tests.support.rules.network import FORBIDDEN, OUTSIDE, Party, Way, pods_of, reaches

BY_PROVIDER = {"EMAIL_SERVICE_URL"}  # without it no e-mail is sent
READ = "cloudnative-app-secrets"  # the Secret that pods read
SCRAPE_SECONDS = 60  # rates of five minutes need some samples
SMTP_PORTS = (465, 587)
PGBOUNCER = {
    "listen_port": "5432",
    "pool_mode": "transaction",
    "default_pool_size": "40",  # as docs/operations.md counts
    "ignore_startup_parameters": "options",
    "auth_type": "scram-sha-256",
    "server_tls_sslmode": "require",
}


def jobs_of_alerts() -> set[str]:
    """Return the scrape jobs that the alerts select."""
    text = (ROOT / "monitoring" / "alerts.yaml").read_text(encoding="utf-8")
    return set(re.findall(r'(?<!\w)job="([\w-]+)"', text)) - {"kube-state-metrics"}


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
    if monitor["metadata"]["namespace"] != PRODUCED or "jobLabel" in monitor["spec"]:
        yield f"{name(monitor)}: finds pods of its own namespace, under the name of the Service"
    for each in endpoints:
        if int(re.sub(r"s$", "", each["interval"]).replace("m", "000")) > SCRAPE_SECONDS:
            yield f"{name(monitor)}: every {each['interval']} is too seldom for rates"
        if each["port"] not in names or each["path"] != "/metrics":
            yield f"{name(monitor)}: {each['port']}{each['path']} is nowhere; there are {names}"


def external_secrets(_production: list[Object], example: list[Object]) -> Iterator[str]:
    """Expect all that pods read from the Secret."""
    for each in of_kind(example, "ExternalSecret"):
        spec = each["spec"]
        keys = {data["secretKey"] for data in spec["data"]}
        for missing in (SECRETS.keys() | BY_PROVIDER) - keys:
            yield f"{name(each)}: {missing} is not brought"
        yield from (f"{name(each)}: no pod reads {key} as a secret" for key in keys - SECRET)
        for data in spec["data"]:
            if data["remoteRef"]["property"] != data["secretKey"].lower().replace("_", "-"):
                yield f"{name(each)}: {data['secretKey']} is {data['remoteRef']['property']}"
        if spec["target"]["name"] != READ:
            yield f"{name(each)}: no pod reads {spec['target']['name']}"
        if not re.fullmatch(r"[1-9]\d*[smh]", str(spec["refreshInterval"])):
            yield f"{name(each)}: new values never come"


def pgbouncer(production: list[Object], example: list[Object]) -> Iterator[str]:
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
            yield from _pooling(given, production, example)


def _pooling(
    given: dict[str, str], production: list[Object], example: list[Object]
) -> Iterator[str]:
    """Expect places for all connections, files that are mounted, the ways, and time to end."""
    if int(given["max_client_conn"]) < (needed := needed_connections(production)):
        yield f"pgbouncer.ini: {given['max_client_conn']} clients, and pods open {needed}"
    ((_, template),) = pod_specs(example)
    (container,) = template["spec"]["containers"]
    folders = [mount["mountPath"] for mount in container["volumeMounts"]]
    for file in (given["auth_file"], container["command"][-1]):
        if file.rpartition("/")[0] not in folders:
            yield f"pgbouncer: {file} is in none of {folders}"
    pauses = re.findall(r"sleep (\d+)", str(container["lifecycle"]))
    if sum(map(int, pauses)) >= template["spec"]["terminationGracePeriodSeconds"]:
        yield f"pgbouncer: is killed before its pauses of {pauses} seconds are over"
    pods = pods_of(production) | pods_of(example)
    policies = of_kind([*production, *example], "NetworkPolicy")
    ways = [Way(pods[each], pods["pgbouncer"], 5432) for each in ("web", "worker", "cleanup")]
    for way in (*ways, Way(pods["pgbouncer"], Party("PostgreSQL", address="10.20.0.5"), 5432)):
        if not reaches(policies, way):
            yield f"{way} is shut"


def smtp(production: list[Object], example: list[Object]) -> Iterator[str]:
    """Expect the ports of mail servers to be open outside of the cluster, and nothing else."""
    if not any(each["metadata"]["name"] == "cloudnative-app-smtp" for each in example):
        return
    policies, pods = of_kind([*production, *example], "NetworkPolicy"), pods_of(production)
    for pod in (pods["web"], pods["worker"]):
        for port in SMTP_PORTS:
            for address in OUTSIDE:
                if not reaches(policies, Way(pod, address, port)):
                    yield f"{Way(pod, address, port)} is shut"
            for forbidden in (Party(each, address=each) for each in FORBIDDEN):
                if reaches(policies, Way(pod, forbidden, port)):
                    yield f"{Way(pod, forbidden, port)} is open"


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
    external_secrets,
    pgbouncer,
    smtp,
]
