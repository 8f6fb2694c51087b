"""Faults as data, and how one is planted: tests/deploy/faults.yaml says what the words mean."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import yaml

from tests.support import kustomize
from tests.support.kustomize import Object
from tests.support.manifests import ROOT
from tests.support.rules import examples
from tests.support.rules.all import findings, findings_of_example

FILE = ROOT / "tests" / "deploy" / "faults.yaml"
COMPOSE = "compose"


class Fault(NamedTuple):
    """A fault: its group, its words, and where and how it is planted."""

    group: str
    words: str
    place: str
    plan: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.group}: {self.words}"


def faults() -> list[Fault]:
    """Return all faults, in the order of the file."""
    groups = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return [
        Fault(group, plan["fault"], plan.get("in", "production"), plan)
        for group, plans in groups.items()
        for plan in plans
    ]


@cache
def clean(place: str) -> list[Object]:
    """Return the objects of a place as they are; they are shared, so copy them before a change."""
    if place.endswith(".yaml"):
        return kustomize.load((ROOT / "k8s" / "examples" / place).read_text(encoding="utf-8"))
    if place == COMPOSE:
        return [examples.compose_prometheus()]
    return kustomize.render(ROOT / "k8s" / "overlays" / place)


def found(place: str, objects: list[Object]) -> Iterator[str]:
    """Yield the findings in an overlay, an example or compose's Prometheus."""
    if place == COMPOSE:
        return examples.compose_jobs(objects[0])
    if place.endswith(".yaml"):
        return findings_of_example(clean("production"), objects)
    return findings(objects)


def plant(fault: Fault) -> list[Object]:
    """Return the objects of a place with one fault in them."""
    objects = copy.deepcopy(clean(fault.place))
    if image := fault.plan.get("image"):
        for container in kustomize.containers(objects):
            container["image"] = image
        return objects
    target = objects[0] if fault.place == COMPOSE else _named(objects, fault.plan["of"])
    if fault.plan.get("drop"):
        objects.remove(target)
    for path in fault.plan.get("remove", []):
        kustomize.operate(target, {"op": "remove", "path": _full(path, target)})
    for path, value in fault.plan.get("set", {}).items():
        _set(target, _full(path, target), value)
    for path, (old, new) in fault.plan.get("replace", {}).items():
        _replace(target, path, old, new)
    return objects


def _named(objects: list[Object], identity: str) -> Object:
    """Return an object; the hash at the end of a ConfigMap's name does not count."""
    kind, _, name = identity.partition("/")
    (one,) = (
        each
        for each in objects
        if each["kind"] == kind and each["metadata"]["name"] in {name, _hashed(each, name)}
    )
    return one


def _hashed(each: Object, name: str) -> str:
    is_hashed = each["kind"] == "ConfigMap" and each["metadata"]["name"].startswith(f"{name}-")
    return each["metadata"]["name"] if is_hashed else name


def _full(path: str, target: Object) -> str:
    """Return a path from the object on."""
    if path.startswith("/"):
        return path
    job = "/spec/jobTemplate" if target["kind"] == "CronJob" else ""
    pod = f"{job}/spec/template/spec"
    start, _, rest = path.partition("/")
    begin = {"pod": pod, "container": f"{pod}/containers/0", "init": f"{pod}/initContainers/0"}
    return f"{begin[start]}/{rest}"


def _set(target: Object, path: str, value: Any) -> None:
    """Put a value at a path, in place of the one that is there."""
    operation = {"op": "replace", "path": path, "value": value}
    try:
        kustomize.operate(target, operation)
    except (KeyError, ValueError):  # a new key, or `-` of a list
        kustomize.operate(target, operation | {"op": "add"})


def _replace(target: Object, path: str, old: str, new: str) -> None:
    """Replace a part of a text."""
    *way, last = path.removeprefix("/").split("/")
    for step in way:
        target = target[step]
    if old not in target[last]:
        raise ValueError(f"{old!r} is not in {path}")
    target[last] = target[last].replace(old, new)
