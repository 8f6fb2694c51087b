"""Rules about the objects that there are, and the patterns of their names and labels."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tests.support.kustomize import Object, pod_specs
from tests.support.manifests import name, of_kind, walk

OBJECT = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*")
LABEL = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
KEY = re.compile(
    r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
)
PORT = re.compile(r"(?=.{1,15}$)(?=.*[a-z])(?!.*--)[a-z0-9]([-a-z0-9]*[a-z0-9])?")
PART = {"app.kubernetes.io/part-of": "cloudnative-app", "app.kubernetes.io/managed-by": "kustomize"}

BASE = {
    *("Deployment/cloudnative-app", "Deployment/cloudnative-app-worker"),
    *("CronJob/cloudnative-app-cleanup", "Service/cloudnative-app"),
    *("ServiceAccount/cloudnative-app", "HorizontalPodAutoscaler/cloudnative-app"),
    *("PodDisruptionBudget/cloudnative-app", "PodDisruptionBudget/cloudnative-app-worker"),
    *("NetworkPolicy/nothing", "NetworkPolicy/dns", "NetworkPolicy/cloudnative-app-web"),
    *("NetworkPolicy/cloudnative-app-worker", "NetworkPolicy/cloudnative-app-egress"),
    *("NetworkPolicy/cloudnative-app-postgresql", "NetworkPolicy/cloudnative-app-redis"),
    "ConfigMap/cloudnative-app-config",
}
# Namespace -> all that an overlay makes in it.
EXPECTED = {
    "cloudnative-app": BASE,
    "cloudnative-app-development": BASE
    | {"StatefulSet/postgresql", "Service/postgresql", "NetworkPolicy/postgresql"}
    | {"Deployment/redis", "Service/redis", "NetworkPolicy/redis"},
}


def expected_objects(objects: list[Object]) -> Iterator[str]:
    """Expect each object of the overlay, and no other."""
    namespaces = [each["metadata"]["name"] for each in of_kind(objects, "Namespace")]
    if len(namespaces) != 1 or namespaces[0] not in EXPECTED:
        yield f"the namespace is {namespaces}"
        return
    found = {name(each) for each in objects if each["kind"] != "Namespace"}
    found = {re.sub(r"(?<=^ConfigMap/cloudnative-app-config)-\w{10}$", "", each) for each in found}
    for each in sorted(EXPECTED[namespaces[0]] ^ found):
        yield f"an object is missing or new: {each}"


def labels_to_prune_by(objects: list[Object]) -> Iterator[str]:
    """Expect the labels by which an apply finds objects that are no longer in the manifests."""
    for each in objects:
        if not each["metadata"].get("labels", {}).items() >= PART.items():
            yield f"{name(each)}: lacks {PART}"


def patterns(objects: list[Object]) -> Iterator[str]:
    """Expect names, labels and ports as the API takes them; the schemas know no patterns."""
    for each in objects:
        if not OBJECT.fullmatch(each["metadata"]["name"]):
            yield f"{name(each)}: is no name of an object"
        for path, key, value in walk(each):
            if key in {"labels", "matchLabels"}:
                for label, text in value.items():
                    if not KEY.fullmatch(label) or not LABEL.fullmatch(str(text)):
                        yield f"{name(each)}: {path} is no label: {label}={text}"


def ports(objects: list[Object]) -> Iterator[str]:
    """Expect names that a port may have, and TCP, which all that runs here speaks."""
    for owner, template in pod_specs(objects):
        for container in template["spec"]["containers"]:
            for port in container.get("ports", []):
                if not PORT.fullmatch(port["name"]):
                    yield f"{name(owner)}: {port['name']} is no name of a port"
                if unknown := set(port) - {"name", "containerPort", "protocol"}:
                    yield f"{name(owner)}: {port['name']} says more: {sorted(unknown)}"
                if port.get("protocol", "TCP") != "TCP":
                    yield f"{name(owner)}: {port['name']} speaks TCP"
    for each in of_kind(objects, "Service"):
        if any(port.get("protocol", "TCP") != "TCP" for port in each["spec"]["ports"]):
            yield f"{name(each)}: its ports speak TCP"


RULES = [expected_objects, labels_to_prune_by, patterns, ports]
