"""A small simulator of NetworkPolicies, and the table of connections that it is held against."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Any, NamedTuple

from tests.support.kustomize import Object, pod_specs
from tests.support.manifests import matches, name, of_kind, walk
from tests.support.rules.environment import settings_of
from tests.support.rules.pods import COMPONENT

NAMESPACE = "kubernetes.io/metadata.name"  # the only label that every namespace has by itself


Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Party(NamedTuple):
    """A pod, or an address outside of the cluster, which has neither namespace nor labels."""

    what: str
    namespace: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    ports: tuple[tuple[str, int], ...] = ()
    address: str = ""


class Way(NamedTuple):
    """A connection that is tried."""

    source: Party
    target: Party
    port: int
    protocol: str = "TCP"

    def __str__(self) -> str:
        return f"{self.source.what} to {self.target.what}:{self.port}/{self.protocol}"


def reaches(policies: list[Object], way: Way) -> bool:
    """Tell whether a connection is let out by its source's policies, and in by its target's."""
    return all(_lets_through(policies, way, direction) for direction in ("Egress", "Ingress"))


def _lets_through(policies: list[Object], way: Way, direction: str) -> bool:
    """Tell whether no policy isolates the pod in this direction, or one lets this through."""
    pod, other = (way.source, way.target) if direction == "Egress" else (way.target, way.source)
    rules, peers = ("egress", "to") if direction == "Egress" else ("ingress", "from")
    isolating = [each for each in policies if _isolates(each, pod, direction)]
    return not isolating or any(
        _fits_port(rule.get("ports", []), way)
        and (peers not in rule or any(_fits(peer, other, pod) for peer in rule[peers]))
        for each in isolating
        for rule in each["spec"].get(rules, [])
    )


def _isolates(policy: Object, pod: Party, direction: str) -> bool:
    """Tell whether a policy is about a pod: a direction that policyTypes leaves out is not its."""
    spec = policy["spec"]
    implied = ["Ingress", *(["Egress"] if "egress" in spec else [])]
    return (
        policy["metadata"]["namespace"] == pod.namespace
        and direction in spec.get("policyTypes", implied)
        and matches(spec["podSelector"], dict(pod.labels))
    )


def _fits_port(ports: list[Object], way: Way) -> bool:
    """Tell whether one of the ports is meant; names are those of the target's containers."""
    numbers: dict[Any, int] = dict(way.target.ports)
    return not ports or any(
        each.get("protocol", "TCP") == way.protocol
        and numbers.get(each.get("port"), each.get("port", way.port)) == way.port
        for each in ports
    )


def _fits(peer: Object, other: Party, pod: Party) -> bool:
    if "ipBlock" in peer:
        return bool(other.address) and _is_in(other.address, peer["ipBlock"])
    if other.address:
        return False
    namespaces = peer.get("namespaceSelector", {"matchLabels": {NAMESPACE: pod.namespace}})
    is_there = matches(namespaces, {NAMESPACE: other.namespace})
    return is_there and matches(peer.get("podSelector", {}), dict(other.labels))


def _is_in(address: str, block: Object) -> bool:
    where = ipaddress.ip_address(address)
    inside = [ipaddress.ip_network(each) for each in (block["cidr"], *block.get("except", []))]
    return where in inside[0] and not any(where in each for each in inside[1:])


def pods_of(objects: list[Object]) -> dict[str, Party]:
    """Return component, or name of a backing service -> its pod."""
    found = {}
    for owner, template in pod_specs(objects):
        labels = template["metadata"]["labels"]
        ports = [
            (port["name"], port["containerPort"])
            for container in template["spec"]["containers"]
            for port in container.get("ports", [])
        ]
        key = labels.get(COMPONENT, owner["metadata"]["name"])
        namespace = owner["metadata"].get("namespace", "")
        found[key] = Party(key, namespace, tuple(labels.items()), tuple(ports))
    return found


def _outside(address: str) -> Party:
    return Party(address, address=address)


INGRESS, MONITORING = (Party(each, each) for each in ("ingress-nginx", "monitoring"))
STRANGER = Party("another namespace", "default")
DNS = Party("DNS", "kube-system", (("k8s-app", "kube-dns"),))
OUTSIDE = [_outside("203.0.113.10"), _outside("2001:db8::10")]
# The metadata service of a cloud, networks of the cluster, and of a node.
FORBIDDEN = ["169.254.169.254", "fd00:ec2::254", "10.0.0.1", "172.16.0.1", "192.168.0.1", "fe80::1"]
BACKENDS = {"postgresql": ("10.20.0.5", 5432), "redis": ("10.20.1.5", 6379)}


def table(objects: list[Object]) -> Iterator[tuple[Way, bool]]:
    """Yield connections, and whether they must be let through."""
    pods = pods_of(objects)
    web, worker, cleanup = (pods[each] for each in ("web", "worker", "cleanup"))
    yield from _inside(web, worker)
    for pod in (web, worker, cleanup):
        has_more = pod is not cleanup
        yield from ((Way(pod, DNS, 53, protocol), True) for protocol in ("TCP", "UDP"))
        yield from ((Way(pod, each, 443), has_more) for each in OUTSIDE)
        yield from ((Way(pod, each, 80), False) for each in OUTSIDE)
        yield from ((Way(pod, _outside(each), 443), False) for each in FORBIDDEN)
        yield from ((Way(pod, _outside(each), 80), False) for each in FORBIDDEN)
        ports = [port for _, port in BACKENDS.values()]
        yield from ((Way(pod, each, port), False) for each in OUTSIDE for port in ports)
        yield from ((Way(pod, MONITORING, port), has_more) for port in (4317, 4318))
        yield Way(pod, STRANGER, 4318), False
        for service, (address, port) in BACKENDS.items():
            backend = pods.get(service, _outside(address))
            yield Way(pod, backend, port), has_more or service == "postgresql"
    for service, (_, port) in BACKENDS.items():
        if service in pods:
            yield Way(STRANGER, pods[service], port), False


def _inside(web: Party, worker: Party) -> Iterator[tuple[Way, bool]]:
    """Yield who may call the pods of the service."""
    yield from ((Way(each, web, 8080), True) for each in (INGRESS, MONITORING))
    yield Way(MONITORING, worker, 9090), True
    yield from ((Way(each, worker, 9090), False) for each in (INGRESS, STRANGER, web))
    yield from ((Way(each, web, 8080), False) for each in (STRANGER, worker))
    yield from ((Way(each, web, 9090), False) for each in (INGRESS, MONITORING))


def connections(objects: list[Object]) -> Iterator[str]:
    """Expect that all of the table, and nothing else in it, is let through."""
    policies = of_kind(objects, "NetworkPolicy")
    for way, expected in table(objects):
        if reaches(policies, way) is not expected:
            yield f"{way} is {'shut' if expected else 'open'}"


def addresses(objects: list[Object]) -> Iterator[str]:
    """Expect networks that are networks, and exceptions that lie inside."""
    for each in of_kind(objects, "NetworkPolicy"):
        for _, key, block in walk(each["spec"]):
            if key == "ipBlock" and (problem := _problem_of(block)):
                yield f"{name(each)}: {problem}"


def _problem_of(block: Object) -> str:
    try:
        whole, *parts = [
            ipaddress.ip_network(each) for each in (block["cidr"], *block.get("except", []))
        ]
    except ValueError as error:
        return str(error)
    outside = [str(each) for each in parts if not _lies_in(each, whole)]
    return f"{', '.join(outside)} outside of {whole}" if outside else ""


def _lies_in(part: Network, whole: Network) -> bool:
    return part.version == whole.version and whole.supernet_of(part)  # type: ignore[arg-type]


def collectors(objects: list[Object]) -> Iterator[str]:
    """Expect the collector that is configured to be let through, by its namespace and port."""
    policies, pods = of_kind(objects, "NetworkPolicy"), pods_of(objects)
    endpoint = settings_of(objects).get("OTEL_EXPORTER_OTLP_ENDPOINT", "")
    if not endpoint:
        return
    host, _, port = endpoint.partition("://")[2].partition(":")
    collector = Party(host, [*host.split("."), ""][1])
    for pod in (pods["web"], pods["worker"]):
        if not reaches(policies, Way(pod, collector, int(port))):
            yield f"{pod.what} does not reach the collector {endpoint}"


RULES = [addresses, connections, collectors]
