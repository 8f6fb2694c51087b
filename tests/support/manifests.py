"""Checks of rendered manifests. Each check yields a sentence for each fault."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Iterator
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import kubernetes_validate

from tests.support.kustomize import Object, containers, pod_specs

ROOT = Path(__file__).resolve().parent.parent.parent
KUBERNETES = ("1.33", "1.35", "1.37")
OUR_IMAGE = "cloudnative-user-api"
SECRETS = {"cloudnative-app-secrets", "postgresql"}  # docs/operations.md says how they are made
QUANTITY = re.compile(r"\d+(\.\d+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?", re.ASCII)

# The schemas of Kubernetes leave these open.
CHOICES = {
    "protocol": {"TCP", "UDP", "SCTP"},
    "operator": {"In", "NotIn", "Exists", "DoesNotExist"},
    "restartPolicy": {"Always", "OnFailure", "Never"},
    "imagePullPolicy": {"Always", "IfNotPresent", "Never"},
    "concurrencyPolicy": {"Allow", "Forbid", "Replace"},
    "whenUnsatisfiable": {"DoNotSchedule", "ScheduleAnyway"},
    "selectPolicy": {"Max", "Min", "Disabled"},
    "fsGroupChangePolicy": {"OnRootMismatch", "Always"},
    "unhealthyPodEvictionPolicy": {"IfHealthyBudget", "AlwaysAllow"},
}


def check_schema(objects: list[Object]) -> Iterator[str]:
    """Let the schemas of several versions of Kubernetes speak, unknown fields refused."""
    for each in objects:
        for version in KUBERNETES:
            if finding := _validate(json.dumps(each), version):
                yield f"{name(each)}: Kubernetes {version}: {finding}"


@cache
def _validate(document: str, version: str) -> str | None:
    each = json.loads(document)
    try:
        kubernetes_validate.validate(each, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return str(error.message)
    except kubernetes_validate.SchemaNotFoundError:
        return f"there is no {each['apiVersion']}"
    return None


def check_values(objects: list[Object]) -> Iterator[str]:
    """Look at values whose form the schemas do not know."""
    for each in objects:
        for path, key, value in walk(each):
            if key in CHOICES and isinstance(value, str) and value not in CHOICES[key]:
                yield f"{name(each)}: {path} must be one of {sorted(CHOICES[key])}, not {value}"
            if key in {"sizeLimit", "storage", "memory", "cpu", "ephemeral-storage"} and (
                not QUANTITY.fullmatch(str(value))
            ):
                yield f"{name(each)}: {path} is no quantity: {value}"
            if value in ([], None) or (value == {} and key not in {"emptyDir", "podSelector"}):
                yield f"{name(each)}: {path} is empty; the server drops it, or it means everything"
        if each["kind"] == "Secret":
            yield from _check_base64(each)


def _check_base64(secret: Object) -> Iterator[str]:
    for key, value in secret.get("data", {}).items():
        try:
            base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            yield f"{name(secret)}: {key} is not base64"


def check_no_secrets(objects: list[Object]) -> Iterator[str]:
    """Refuse secrets in the repository."""
    for each in objects:
        if each["kind"] == "Secret":
            yield f"{name(each)}: a secret has no place in the repository"


def check_namespace(objects: list[Object]) -> Iterator[str]:
    """Expect one namespace, which admits only restricted pods."""
    (namespace,) = of_kind(objects, "Namespace")
    labels = namespace["metadata"].get("labels", {})
    if labels.get("pod-security.kubernetes.io/enforce") != "restricted":
        yield f"{name(namespace)}: must enforce pod security `restricted`"
    for each in objects:
        inside = each["metadata"].get("namespace")
        if each is not namespace and inside != namespace["metadata"]["name"]:
            yield f"{name(each)}: is in {inside}"


def check_pod_security(objects: list[Object]) -> Iterator[str]:
    """Hold every pod and container to `restricted`, with a read-only root."""
    for owner, template in pod_specs(objects):
        spec = template["spec"]
        pod = spec.get("securityContext", {})
        expected = {
            "runAsNonRoot": pod.get("runAsNonRoot") is True,
            "seccompProfile": pod.get("seccompProfile", {}).get("type") == "RuntimeDefault",
            "automountServiceAccountToken": spec.get("automountServiceAccountToken") is False,
            "numeric user": pod.get("runAsUser", 0) >= 10_000,
        }
        for each in chain(spec.get("initContainers", []), spec["containers"]):
            context = each.get("securityContext", {})
            at = each["name"]
            expected |= {
                f"{at} privileges": context.get("allowPrivilegeEscalation") is False,
                f"{at} root": context.get("readOnlyRootFilesystem") is True,
                f"{at} capabilities": context.get("capabilities") == {"drop": ["ALL"]},
                f"{at} own user": "runAsUser" not in context and "runAsNonRoot" not in context,
            }
            for kind in ("requests", "limits"):
                given = each.get("resources", {}).get(kind, {})
                expected[f"{at} {kind}"] = {"cpu", "memory"} <= set(given)
        expected["no access to the node"] = not any(
            key.startswith("host") and key != "hostname" for key in spec
        )
        yield from (f"{name(owner)}: {what}" for what, holds in expected.items() if not holds)


def check_selectors(objects: list[Object]) -> Iterator[str]:
    """Expect every selector to select, and workloads to select their own pods."""
    templates = list(pod_specs(objects))
    for owner, template in templates:
        labels = template["metadata"]["labels"]
        selector = owner["spec"].get("selector", {"matchLabels": labels})
        if not matches(selector, labels):
            yield f"{name(owner)}: the selector does not match the template's labels"
        for path, key, value in walk(template["spec"]):
            if key == "labelSelector" and not matches(value, labels):
                yield f"{name(owner)}: {path} does not match its own pods"
    for each in objects:
        for path, selector in _selectors(each):
            if not any(
                matches(selector, template["metadata"]["labels"]) for _, template in templates
            ):
                yield f"{name(each)}: {path} selects no pod"


def _selectors(each: Object) -> Iterator[tuple[str, Object]]:
    if each["kind"] == "Service":
        yield "selector", {"matchLabels": each["spec"]["selector"]}
    if each["kind"] == "PodDisruptionBudget":
        yield "selector", each["spec"]["selector"]
    if each["kind"] == "NetworkPolicy":
        yield "podSelector", each["spec"]["podSelector"]
        for path, key, value in walk(each["spec"]):
            peers = value if key in {"from", "to"} else []
            for peer in peers:
                # Pods of another namespace are not ours to know.
                if "podSelector" in peer and "namespaceSelector" not in peer:
                    yield f"{path}.podSelector", peer["podSelector"]


def check_budgets(objects: list[Object]) -> Iterator[str]:
    """Let autoscaler, disruption budget and replicas agree."""
    scalers = {each["spec"]["scaleTargetRef"]["name"]: each for each in of_kind(objects, SCALER)}
    deployments = {each["metadata"]["name"]: each for each in of_kind(objects, "Deployment")}
    for target, scaler in scalers.items():
        if scaler["spec"]["minReplicas"] > scaler["spec"]["maxReplicas"]:
            yield f"{name(scaler)}: minReplicas above maxReplicas"
        if target not in deployments:
            yield f"{name(scaler)}: there is no Deployment {target}"
        elif "replicas" in deployments[target]["spec"]:
            yield f"{target}: replicas beside an autoscaler; each apply would reset the scale"
    for each in of_kind(objects, "PodDisruptionBudget"):
        spec = each["spec"]
        if ("minAvailable" in spec) == ("maxUnavailable" in spec):
            yield f"{name(each)}: needs one of minAvailable and maxUnavailable"
        for target, scaler in scalers.items():
            labels = (
                deployments.get(target, {}).get("spec", {}).get("template", {}).get("metadata", {})
            )
            applies = matches(spec["selector"], labels.get("labels", {}))
            if applies and spec.get("minAvailable", 0) >= scaler["spec"]["minReplicas"]:
                yield f"{name(each)}: minAvailable leaves no pod that may be evicted"


def check_volumes(objects: list[Object]) -> Iterator[str]:
    """Expect each mount to have a volume, each volume a mount, and only harmless kinds."""
    for owner, template in pod_specs(objects):
        spec = template["spec"]
        claims = {
            each["metadata"]["name"] for each in owner["spec"].get("volumeClaimTemplates", [])
        }
        volumes = {each["name"] for each in spec.get("volumes", [])} | claims
        every = chain(spec.get("initContainers", []), spec["containers"])
        mounted = {mount["name"] for each in every for mount in each.get("volumeMounts", [])}
        for missing in mounted - volumes:
            yield f"{name(owner)}: no volume is named {missing}"
        for unused in volumes - mounted:
            yield f"{name(owner)}: the volume {unused} is mounted nowhere"
        for each in spec.get("volumes", []):
            if not set(each) <= {"name", "emptyDir", "configMap", "secret"}:
                yield f"{name(owner)}: the volume {each['name']} is not of a harmless kind"


def check_services(objects: list[Object]) -> Iterator[str]:
    """Expect the target of a Service to be a port by name."""
    for each in of_kind(objects, "Service"):
        names, _ = ports_of(objects, {"matchLabels": each["spec"]["selector"]})
        for port in each["spec"]["ports"]:
            if port["targetPort"] not in names:
                yield f"{name(each)}: no container has a port named {port['targetPort']}"


def check_probes(objects: list[Object]) -> Iterator[str]:
    """Expect probes and scrapes to go to ports of the container and the pod."""
    for owner, template in pod_specs(objects):
        for container in template["spec"]["containers"]:
            names = {port["name"] for port in container.get("ports", [])}
            for path, key, value in walk(container):
                if key == "port" and value not in names:
                    yield f"{name(owner)}: {path} is no port of this container: {value}"
        scraped = template["metadata"].get("annotations", {}).get("prometheus.io/port")
        _, numbers = ports_of(objects, {"matchLabels": template["metadata"]["labels"]})
        if scraped is not None and int(scraped) not in numbers:
            yield f"{name(owner)}: prometheus.io/port is no port of a container: {scraped}"


def check_ways_in(objects: list[Object]) -> Iterator[str]:
    """Expect policies to let in to ports that are there."""
    for each in of_kind(objects, "NetworkPolicy"):
        names, numbers = ports_of(objects, each["spec"]["podSelector"])
        for rule in each["spec"].get("ingress", []):
            for port in rule.get("ports", [{}]):
                if port.get("port") not in names | numbers:
                    yield f"{name(each)}: lets in to a port that no selected container has: {port}"


def ports_of(objects: list[Object], selector: Object) -> tuple[set[str], set[int]]:
    """Return names and numbers of the ports of the pods that are selected."""
    ports = [
        port
        for _, template in pod_specs(objects)
        if matches(selector, template["metadata"]["labels"])
        for container in template["spec"]["containers"]
        for port in container.get("ports", [])
    ]
    return {port["name"] for port in ports}, {port["containerPort"] for port in ports}


def check_references(objects: list[Object]) -> Iterator[str]:
    """Expect what is named to exist: service accounts, ConfigMaps, documented Secrets."""
    accounts = {each["metadata"]["name"] for each in of_kind(objects, "ServiceAccount")}
    maps = {each["metadata"]["name"] for each in of_kind(objects, "ConfigMap")}
    known = {"configMapRef": maps, "secretRef": SECRETS, "secretKeyRef": SECRETS}
    for owner, template in pod_specs(objects):
        account = template["spec"].get("serviceAccountName")
        if account is not None and account not in accounts:
            yield f"{name(owner)}: there is no ServiceAccount {account}"
        for path, key, value in walk(template["spec"]):
            if key in known and value["name"] not in known[key]:
                yield f"{name(owner)}: {path} names what does not exist: {value['name']}"


def check_policies(objects: list[Object]) -> Iterator[str]:
    """Expect rules that say who and which port; an empty list would mean everybody."""
    policies = of_kind(objects, "NetworkPolicy")
    if not any(_refuses_all(each) for each in policies):
        yield "no NetworkPolicy refuses what none lets through"
    for each in policies:
        for direction, peers in (("ingress", "from"), ("egress", "to")):
            for rule in each["spec"].get(direction, []):
                if not rule.get(peers) or not rule.get("ports"):
                    yield f"{name(each)}: an {direction} rule must say who and which port"
                for peer in rule.get(peers, []):
                    # This label is the only one that every namespace has by itself.
                    labels = peer.get("namespaceSelector", {}).get("matchLabels", {})
                    if set(labels) - {"kubernetes.io/metadata.name"}:
                        yield f"{name(each)}: a namespace may not have the labels {labels}"


def _refuses_all(policy: Object) -> bool:
    spec = policy["spec"]
    is_both = set(spec["policyTypes"]) == {"Ingress", "Egress"}
    return spec["podSelector"] == {} and is_both and not spec.keys() & {"ingress", "egress"}


def check_images(objects: list[Object]) -> Iterator[str]:
    """Expect one image of ours, at one version, and none without a version."""
    images = {each["image"] for each in containers(objects)}
    ours = {each for each in images if OUR_IMAGE in each}
    if len(ours) != 1:
        yield f"init and other containers must run the same image: {sorted(ours)}"
    for each in images:
        if not re.search(r":[\w.-]+$|@sha256:[0-9a-f]{64}$", each) or each.endswith(":latest"):
            yield f"{each} names no version"


SCALER = "HorizontalPodAutoscaler"
CHECKS: list[Callable[[list[Object]], Iterator[str]]] = [
    check_schema,
    check_values,
    check_no_secrets,
    check_namespace,
    check_pod_security,
    check_selectors,
    check_budgets,
    check_volumes,
    check_services,
    check_probes,
    check_ways_in,
    check_references,
    check_policies,
    check_images,
]


def of_kind(objects: list[Object], kind: str) -> list[Object]:
    """Return the objects of one kind."""
    return [each for each in objects if each["kind"] == kind]


def name(each: Object) -> str:
    """Return what kubectl would call an object."""
    return f"{each['kind']}/{each['metadata']['name']}"


def matches(selector: Object, labels: dict[str, str]) -> bool:
    """Tell whether a label selector selects these labels."""
    for key, value in selector.get("matchLabels", {}).items():
        if labels.get(key) != value:
            return False
    for each in selector.get("matchExpressions", []):
        if each["operator"] != "In":
            raise NotImplementedError(each["operator"])
        if labels.get(each["key"]) not in each["values"]:
            return False
    return True


def walk(value: Any, path: str = "") -> Iterator[tuple[str, str, Any]]:
    """Yield path, key and value of everything inside."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        here = f"{path}.{key}" if path else str(key)
        yield here, str(key), inner
        if isinstance(inner, dict | list):
            yield from walk(inner, here)
