"""Rules about pods of this service: their keys, resources, volumes and places."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any, NamedTuple

from tests.support.kustomize import Object, pod_specs
from tests.support.manifests import OUR_IMAGE, QUANTITY, name

COMPONENT = "app.kubernetes.io/component"
COMMANDS = {
    ("web", "migrate"): ["python", "app.py", "admin", "migrate"],
    ("web", "web"): ["python", "app.py"],
    ("worker", "migrate"): ["python", "app.py", "admin", "migrate"],
    ("worker", "worker"): ["python", "app.py", "worker"],
    ("cleanup", "cleanup"): ["python", "app.py", "admin", "cleanup", "--days", "30"],
}
# A key that is not here changes where a pod runs, what it shares, or what it may do.
POD_KEYS = {"serviceAccountName", "automountServiceAccountToken", "enableServiceLinks"}
POD_KEYS |= {"terminationGracePeriodSeconds", "securityContext", "affinity", "restartPolicy"}
POD_KEYS |= {"topologySpreadConstraints", "initContainers", "containers", "volumes"}
CONTAINER_KEYS = {"name", "image", "imagePullPolicy", "command", "ports", "envFrom", "env"}
CONTAINER_KEYS |= {"resources", "securityContext", "volumeMounts"}
CONTAINER_KEYS |= {"startupProbe", "livenessProbe", "readinessProbe"}
CONTEXT_KEYS = {"allowPrivilegeEscalation", "readOnlyRootFilesystem", "capabilities"}
SCRAPED = {"web": "8080", "worker": "9090"}
UNITS: dict[str, Decimal | int] = {"m": Decimal("0.001"), "k": 10**3, "M": 10**6, "G": 10**9}
UNITS |= {"T": 10**12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
LIMITS: dict[str, tuple[Decimal | int, Decimal | int]] = {
    "memory": (32 * 2**20, 8 * 2**30),
    "cpu": (Decimal("0.01"), 8),
    "ephemeral-storage": (64 * 2**20, 64 * 2**30),
    "sizeLimit": (64 * 2**20, 2**30),
}


class Ours(NamedTuple):
    """A container of this service, with all that it is in."""

    owner: Object
    template: Object
    container: Object

    @property
    def component(self) -> str:
        """The value of the label that tells web, worker and cleanup apart."""
        return str(self.template["metadata"]["labels"].get(COMPONENT))

    @property
    def at(self) -> str:
        """The container as findings name it."""
        return f"{name(self.owner)}/{self.container['name']}"


def ours(objects: list[Object]) -> Iterator[Ours]:
    """Yield the containers that run this service's image, init containers included."""
    for owner, template in pod_specs(objects):
        spec = template["spec"]
        for container in [*spec.get("initContainers", []), *spec["containers"]]:
            if OUR_IMAGE in container.get("image", OUR_IMAGE):
                yield Ours(owner, template, container)


def amount(quantity: object) -> Decimal:
    """Return a quantity in its unit: bytes, or cores.

    Raises:
        ValueError: it is no quantity.
    """
    if not QUANTITY.fullmatch(str(quantity)):
        raise ValueError(quantity)
    number = str(quantity).rstrip("mkMGTKi")
    return Decimal(number) * UNITS.get(str(quantity)[len(number) :], 1)


def commands(objects: list[Object]) -> Iterator[str]:
    """Expect every process, and the command that it runs."""
    found = {(each.component, each.container["name"]): each for each in ours(objects)}
    for key in COMMANDS.keys() ^ found.keys():
        yield f"a container is missing or new: {'/'.join(key)}"
    for key, each in found.items():
        if each.container.get("command") != COMMANDS.get(key):
            yield f"{each.at}: runs {each.container.get('command')}"


def resources(objects: list[Object]) -> Iterator[str]:
    """Expect requests below limits, and neither to be off by a unit."""
    for each in ours(objects):
        given = each.container.get("resources", {})
        requests, limits = given.get("requests", {}), given.get("limits", {})
        for key in {*requests, *limits}:
            both = [kind[key] for kind in (requests, limits) if key in kind]
            yield from (f"{each.at}: {key} {problem}" for problem in _off(key, both))


def _off(key: str, quantities: list[Any]) -> Iterator[str]:
    try:
        amounts = [amount(each) for each in quantities]
    except ValueError as error:
        yield f"is no quantity: {error}"
        return
    low, high = LIMITS[key]
    yield from (f"of {each} is not meant" for each in amounts if not low <= each <= high)
    if amounts != sorted(amounts):
        yield f"is requested above its limit: {quantities}"


def volumes(objects: list[Object]) -> Iterator[str]:
    """Expect /tmp alone to be writable: bounded, and on disk, or it would count as memory."""
    for each in ours(objects):
        mounts = each.container.get("volumeMounts", [])
        if mounts != [{"name": "tmp", "mountPath": "/tmp"}]:
            yield f"{each.at}: mounts other folders than /tmp, or not for writing: {mounts}"
        for volume in each.template["spec"].get("volumes", []):
            folder = volume.get("emptyDir", {})
            if set(folder) != {"sizeLimit"}:
                yield f"{name(each.owner)}: a volume needs a limit and nothing else: {volume}"
            else:
                yield from (
                    f"{each.at}: sizeLimit {x}" for x in _off("sizeLimit", [*folder.values()])
                )


def keys_of_pods(objects: list[Object]) -> Iterator[str]:
    """Expect no key of a pod or a container that nobody has thought about."""
    for each in ours(objects):
        spec = each.template["spec"]
        if unknown := set(spec) - POD_KEYS:
            yield f"{name(each.owner)}: keys that are not expected: {sorted(unknown)}"
        if set(each.container.get("securityContext", {})) != CONTEXT_KEYS:
            yield f"{each.at}: securityContext has other keys than {sorted(CONTEXT_KEYS)}"
        if "image" not in each.container:
            yield f"{each.at}: runs no image"
        if each.container.get("imagePullPolicy", "IfNotPresent") == "Never":
            yield f"{each.at}: nobody brings the image to a node"
        if unknown := set(each.container) - CONTAINER_KEYS - {"lifecycle"}:
            yield f"{each.at}: keys that are not expected: {sorted(unknown)}"
        if "lifecycle" in each.container:
            yield f"{each.at}: a preStop takes from the seconds in which the application drains"
        if spec.get("enableServiceLinks") is not False:
            yield f"{name(each.owner)}: each Service adds seven variables"


def placement(objects: list[Object]) -> Iterator[str]:
    """Expect pods to be apart where that is possible, and to find a place where it is not."""
    for owner, template in pod_specs(objects):
        affinity = template["spec"].get("affinity", {})
        kinds = {kind for each in affinity.values() for kind in each}
        if not set(affinity) <= {"podAntiAffinity"} or any("required" in kind for kind in kinds):
            yield f"{name(owner)}: affinity keeps pods from nodes that are left"
        for kind in affinity.values():
            wishes = [wish for each in kind.values() for wish in each if "weight" in wish]
            if any(not 1 <= wish["weight"] <= 100 for wish in wishes):
                yield f"{name(owner)}: the weight of a wish is 1 to 100"
        for each in template["spec"].get("topologySpreadConstraints", []):
            if each["whenUnsatisfiable"] != "ScheduleAnyway":
                yield f"{name(owner)}: a zone that is lost takes the others' pods along"


def scrapes(objects: list[Object]) -> Iterator[str]:
    """Expect the annotations by which a common job finds the pods."""
    for owner, template in pod_specs(objects):
        labels = template["metadata"]["labels"]
        if (port := SCRAPED.get(labels.get(COMPONENT, ""))) is None:
            continue
        expected = {"scrape": "true", "port": port, "path": "/metrics"}
        annotations = template["metadata"].get("annotations", {})
        if annotations != {f"prometheus.io/{key}": value for key, value in expected.items()}:
            yield f"{name(owner)}: annotations for a scrape are {annotations}"


RULES = [commands, resources, volumes, keys_of_pods, placement, scrapes]
