"""Renders like `kubectl kustomize`, for the part of kustomize that k8s/ uses.

Tests and tools need no program this way, and a field that is not known here is an error.
tests/deploy/test_manifests.py compares the result with the real program wherever there is one.
As a program it prints an overlay: python -m tests.support.kustomize k8s/overlays/production
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Hashable, Iterator
from pathlib import Path
from typing import Any

import yaml

Object = dict[str, Any]

CLUSTER_KINDS = {"Namespace"}
HASH_LENGTH = 10


def render(folder: Path) -> list[Object]:
    """Return the objects of a kustomization, as a cluster would get them."""
    objects, maps = _build(folder.resolve())
    labels = _labels(yaml.safe_load((folder / "kustomization.yaml").read_text(encoding="utf-8")))
    for name, data in maps.items():
        objects.append(_config_map(name, data, objects))
    for each in objects if labels else []:
        each["metadata"].setdefault("labels", {}).update(labels)
    return objects


def _labels(plan: Object) -> dict[str, str]:
    """Return the labels that objects get, their selectors and the templates of pods do not."""
    found: dict[str, str] = {}
    for each in plan.get("labels", []):
        _require(each, {"pairs"})
        found |= each["pairs"]
    return found


def find(objects: list[Object], kind: str, name: str) -> Object:
    """Return one object."""
    (found,) = (each for each in objects if _identity(each) == (kind, name))
    return found


def _build(folder: Path) -> tuple[list[Object], dict[str, dict[str, str]]]:
    """Return the objects, and the ConfigMaps that an overlay may still add to."""
    objects: list[Object] = []
    maps: dict[str, dict[str, str]] = {}
    _add(folder, objects, maps)
    return objects, maps


def _add(folder: Path, objects: list[Object], maps: dict[str, dict[str, str]]) -> None:
    """Add what a folder makes; a component changes what is there already as well."""
    plan = yaml.safe_load((folder / "kustomization.yaml").read_text(encoding="utf-8"))
    for resource in plan.pop("resources", []):
        path = folder / resource
        if path.is_dir():
            inner, inner_maps = _build(path.resolve())
            objects += inner
            maps |= inner_maps
        else:
            objects += load(path.read_text(encoding="utf-8"))
    for component in plan.pop("components", []):
        _add((folder / component).resolve(), objects, maps)
    for field, value in plan.items():
        if field not in {"apiVersion", "kind", "namespace", "labels"}:
            TRANSFORMERS[field](folder, value, objects, maps)
    if namespace := plan.get("namespace"):
        _set_namespace(namespace, objects)


class _Loader(yaml.SafeLoader):
    """Refuses a key that is there twice, as kustomize does."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002 - PyYAML's own signature
        """Make a mapping of keys that differ."""
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        if twice := {key for key in keys if keys.count(key) > 1}:
            msg = f"{sorted(twice)} is there twice{node.start_mark}"
            raise ValueError(msg)
        return super().construct_mapping(node, deep)


def load(text: str) -> list[Object]:
    """Read YAML documents; an anchor's copies become independent of each other.

    Raises:
        ValueError: a key is there twice.
    """
    documents = yaml.load_all(text, _Loader)
    return [json.loads(json.dumps(each)) for each in documents if each is not None]


def dump(objects: list[Object]) -> str:
    """Write objects as YAML documents."""
    return yaml.safe_dump_all(objects, sort_keys=False)


def _generate_config_maps(
    folder: Path,
    generators: list[Object],
    _objects: list[Object],
    maps: dict[str, dict[str, str]],
) -> None:
    for generator in generators:
        _require(generator, {"name", "envs", "behavior"})
        is_merge = generator.get("behavior", "create") == "merge"
        if is_merge != (generator["name"] in maps):
            msg = f"{generator['name']}: behavior must be merge exactly when it exists"
            raise ValueError(msg)
        data = maps.setdefault(generator["name"], {})
        for file in generator["envs"]:
            given = list(_variables((folder / file).read_text(encoding="utf-8")))
            if len(dict(given)) < len(given):
                msg = f"{file}: a variable is there twice"
                raise ValueError(msg)
            data |= dict(given)


def _variables(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            name, _, value = line.partition("=")
            yield name, value


def _set_images(_folder: Path, images: list[Object], objects: list[Object], _maps: Any) -> None:
    for image in images:
        _require(image, {"name", "newName", "newTag", "digest"})
        if not all(isinstance(value, str) for value in image.values()):
            msg = f"{image}: a number must be quoted"
            raise ValueError(msg)
        name = image.get("newName", image["name"])
        suffix = f"@{image['digest']}" if "digest" in image else f":{image['newTag']}"
        for container in containers(objects):
            if container["image"] == image["name"]:
                container["image"] = f"{name}{suffix}"


def _patch(_folder: Path, patches: list[Object], objects: list[Object], _maps: Any) -> None:
    for patch in patches:
        _require(patch, {"target", "patch"})
        _require(patch["target"], {"kind", "name"})
        patched = find(objects, patch["target"]["kind"], patch["target"]["name"])
        for operation in yaml.safe_load(patch["patch"]):
            operate(patched, operation)


TRANSFORMERS: dict[str, Callable[[Path, Any, list[Object], Any], None]] = {
    "configMapGenerator": _generate_config_maps,
    "images": _set_images,
    "patches": _patch,
}


def operate(document: Any, operation: Object) -> None:
    """Apply one operation of RFC 6902."""
    *way, last = operation["path"].removeprefix("/").split("/")
    for step in way:
        document = document[int(step) if isinstance(document, list) else _unescape(step)]
    match operation["op"], document:
        case "add", list():
            document.insert(len(document) if last == "-" else int(last), operation["value"])
        case "remove", _:
            del document[int(last) if isinstance(document, list) else _unescape(last)]
        case (("add" | "replace"), _):
            key: Any = int(last) if isinstance(document, list) else _unescape(last)
            if operation["op"] == "replace":
                document[key]  # raises KeyError for what is not there
            document[key] = operation["value"]
        case unknown, _:
            raise ValueError(unknown)


def _unescape(step: str) -> str:
    return step.replace("~1", "/").replace("~0", "~")


def _set_namespace(namespace: str, objects: list[Object]) -> None:
    for each in objects:
        if each["kind"] == "Namespace":
            each["metadata"]["name"] = namespace
        elif each["kind"] not in CLUSTER_KINDS:
            each["metadata"]["namespace"] = namespace


def _config_map(name: str, data: dict[str, str], objects: list[Object]) -> Object:
    """Make a ConfigMap whose name ends in a hash of its content, and tell those who use it.

    The hash is not the one that kustomize takes, which is no part of its documentation.
    """
    digest = hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()
    hashed = f"{name}-{digest[:HASH_LENGTH]}"
    for container in containers(objects):
        for source in container.get("envFrom", []):
            if source.get("configMapRef", {}).get("name") == name:
                source["configMapRef"]["name"] = hashed
    namespaces = {each["metadata"].get("namespace") for each in objects} - {None}
    (namespace,) = namespaces or {None}
    metadata = {"name": hashed} | ({"namespace": namespace} if namespace else {})
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def pod_specs(objects: list[Object]) -> Iterator[tuple[Object, Object]]:
    """Yield each workload with the template of its pods."""
    for each in objects:
        if each["kind"] == "CronJob":
            yield each, each["spec"]["jobTemplate"]["spec"]["template"]
        elif each["kind"] in {"Deployment", "StatefulSet", "Job", "DaemonSet"}:
            yield each, each["spec"]["template"]


def containers(objects: list[Object]) -> Iterator[Object]:
    """Yield every container, those that only initialise included."""
    for _, template in pod_specs(objects):
        yield from template["spec"].get("initContainers", [])
        yield from template["spec"]["containers"]


def _identity(each: Object) -> tuple[str, str]:
    return each["kind"], each["metadata"]["name"]


def _require(given: Object, known: set[str]) -> None:
    if unknown := set(given) - known:
        msg = f"not supported by tests/support/kustomize.py: {sorted(unknown)}"
        raise ValueError(msg)


def main(arguments: list[str]) -> None:
    """Print the rendered objects as YAML."""
    sys.stdout.write(dump(render(Path(arguments[0]))))


if __name__ == "__main__":
    main(sys.argv[1:])
