"""kubectl commands of documents against the manifests: kind, name, label, container, namespace."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import kubernetes_validate

from config import AppConfig
from tests.support import manifests
from tests.support.kustomize import Object, pod_specs

NEWEST = manifests.KUBERNETES[-1]
KINDS = {
    **dict.fromkeys(("pod", "pods", "po"), "Pod"),
    **dict.fromkeys(("job", "jobs"), "Job"),
    **dict.fromkeys(("deployment", "deployments", "deploy"), "Deployment"),
    **dict.fromkeys(("replicaset", "replicasets", "rs"), "ReplicaSet"),
    **dict.fromkeys(("cronjob", "cronjobs", "cj"), "CronJob"),
    **dict.fromkeys(("hpa", "horizontalpodautoscaler"), "HorizontalPodAutoscaler"),
    **dict.fromkeys(("secret", "secrets"), "Secret"),
    **dict.fromkeys(("configmap", "configmaps", "cm"), "ConfigMap"),
    **dict.fromkeys(("service", "services", "svc"), "Service"),
    **dict.fromkeys(("namespace", "namespaces", "ns"), "Namespace"),
    **dict.fromkeys(("networkpolicy", "networkpolicies", "netpol"), "NetworkPolicy"),
}
# Made while the cluster runs, so no manifest names one.
UNNAMED = {"Pod", "Job", "ReplicaSet"}
MADE_BY = {"Job": "CronJob", "ReplicaSet": "Deployment"}
# Verb -> options, and whether each takes a value; a test asks kubectl itself.
TARGETS = {"--selector": True, "--output": True}
VERBS: dict[str, dict[str, bool]] = {
    "apply": {"--kustomize": True, "--filename": True, "--prune": False, "--selector": True}
    | {"--prune-allowlist": True, "--server-side": False},
    "diff": {"--kustomize": True, "--filename": True, "--prune": False, "--selector": True}
    | {"--prune-allowlist": True},
    "get": TARGETS,
    "describe": {"--selector": True},
    "delete": {"--selector": True},
    "top pods": {"--selector": True, "--containers": False},
    "logs": {"--selector": True, "--container": True, "--previous": False, "--prefix": False}
    | {"--tail": True, "--follow": False},
    "exec": {"--container": True, "--stdin": False, "--tty": False},
    "patch": {"--patch": True, "--type": True},
    "scale": {"--replicas": True},
    "create secret generic": {"--from-literal": True, "--from-env-file": True},
    "create job": {"--from": True},
    "apply edit-last-applied": {},
    "rollout status": {},
    "rollout undo": {"--to-revision": True},
    "rollout restart": {"--selector": True},
}
EVERY_OPTION = {"--namespace": True} | {
    name: takes for options in VERBS.values() for name, takes in options.items()
}
SHORT = {"-l": "--selector", "-n": "--namespace", "-c": "--container", "-o": "--output"}
SHORT |= {"-k": "--kustomize", "-f": "--filename", "-p": "--previous", "-i": "--stdin"}
SHORT |= {"-t": "--tty"}
FROM_FILES = {"apply", "diff"}
LISTING = {"get", "top pods"}  # without a name they show all
BY_POD = {"logs"}  # of a Deployment it takes one pod, and in a rollout an old one


class Unknown(Exception):
    """The command line has a verb or an option that kubectl, or this table, does not have."""


@dataclass
class Line:
    """A command line of kubectl, taken apart."""

    verb: str
    objects: list[str]
    options: dict[str, list[str]] = field(default_factory=dict)
    inner: tuple[str, ...] = ()  # the command behind `--`

    def values(self, option: str) -> list[str]:
        """Return the values of an option, in order."""
        return self.options.get(option, [])


def parse(words: tuple[str, ...]) -> Line:
    """Take a command line apart.

    Raises:
        Unknown: the verb, or an option of it.
    """
    end = words.index("--") if "--" in words else len(words)
    options, plain = _sorted_out(list(words[1:end]))
    verb = next((" ".join(plain[:n]) for n in (3, 2, 1) if " ".join(plain[:n]) in VERBS), None)
    if verb is None:
        raise Unknown(f"no verb {' '.join(plain[:2])}")
    if unknown := options.keys() - VERBS[verb].keys() - {"--namespace"}:
        raise Unknown(f"{verb} has no {sorted(unknown)}")
    return Line(verb, plain[len(verb.split()) :], options, words[end + 1 :])


def _sorted_out(words: list[str]) -> tuple[dict[str, list[str]], list[str]]:
    """Return options with their values, and the other words."""
    options: dict[str, list[str]] = {}
    plain: list[str] = []
    while words:
        word = words.pop(0)
        if not word.startswith("-"):
            plain.append(word)
        for name, value in _options(word):
            if name not in EVERY_OPTION:
                raise Unknown(f"no option {name}")
            is_apart = value is None and EVERY_OPTION[name] and words
            options.setdefault(name, []).append(words.pop(0) if is_apart else value or "")
    return options, plain


def _options(word: str) -> Iterator[tuple[str, str | None]]:
    """Yield the options of a word, such as -it, with the value that is in it."""
    if word.startswith("--"):
        name, given, value = word.partition("=")
        yield name, value if given else None
    elif word.startswith("-"):
        for letter in word[1:]:
            yield SHORT.get(f"-{letter}", f"-{letter}"), None


def faults(words: tuple[str, ...], folder: Path, overlays: dict[str, list[Object]]) -> list[str]:
    """Return what is wrong with a command; overlays are the rendered objects by namespace."""
    try:
        line = parse(words)
    except Unknown as error:
        return [str(error)]
    if line.verb in FROM_FILES:
        return list(_files(line, folder))
    (namespace,) = line.values("--namespace") or [""]
    if namespace not in overlays:
        return [f"no overlay has the namespace {namespace!r}"]
    return [fault for check in CHECKS for fault in check(line, overlays[namespace])]


def _files(line: Line, folder: Path) -> Iterator[str]:
    named = line.values("--kustomize") + line.values("--filename")
    if not named:
        yield f"{line.verb} names no file"
    for each in named:
        if not (folder / each).exists():
            yield f"there is no {each}"


def _targets(line: Line) -> Iterator[tuple[str, str]]:
    """Yield kind and name of each object; the name is empty where a label stands for it."""
    plain = line.objects
    if line.verb in {"logs", "exec"}:
        plain = [each if "/" in each else f"pod/{each}" for each in plain[:1]]
    if line.verb == "top pods":
        yield from (("Pod", each) for each in plain or [""])
    elif line.verb == "create job":
        yield from (_kind_and_name(each) for each in line.values("--from"))
    elif line.verb == "create secret generic":
        yield "Secret", plain[0]
    elif any("/" in each for each in plain):
        yield from (_kind_and_name(each) for each in plain)
    elif plain:
        yield from ((KINDS.get(plain[0], plain[0]), each) for each in plain[1:] or [""])


def _kind_and_name(text: str) -> tuple[str, str]:
    kind, _, name = text.partition("/")
    return KINDS.get(kind, kind), name


def check_objects(line: Line, objects: list[Object]) -> Iterator[str]:
    """Expect each object to exist, and a name or a label wherever one object is needed."""
    known = {(each["kind"], each["metadata"]["name"]) for each in objects}
    known |= {("Secret", name) for name in manifests.SECRETS}
    targets = list(_targets(line))
    is_selected = bool(line.values("--selector"))
    if not targets and not is_selected:
        yield f"{line.verb} names nothing"
    for kind, name in targets:
        if kind not in KINDS.values():
            yield f"no kind {kind}"
        elif not name and not is_selected and line.verb not in LISTING:
            yield f"{line.verb} names no {kind}"
        elif name and (kind, name) not in known and not (kind in UNNAMED and name.isupper()):
            yield f"there is no {kind} {name}"
        if line.verb in BY_POD and kind not in UNNAMED:
            yield f"logs of a {kind} are those of one pod, which may be an old one"


def check_labels(line: Line, objects: list[Object]) -> Iterator[str]:
    """Expect labels to select something of the kind."""
    for selector in line.values("--selector"):
        wanted = {"matchLabels": dict(part.split("=") for part in selector.split(","))}
        if not any(manifests.matches(wanted, labels) for labels in _labels(line, objects)):
            yield f"nothing has the labels {selector}"


def _labels(line: Line, objects: list[Object]) -> list[dict[str, str]]:
    kind = next((kind for kind, _ in _targets(line)), "Pod")
    if kind in UNNAMED:
        owners = MADE_BY.get(kind)
        return [
            template["metadata"]["labels"]
            for owner, template in pod_specs(objects)
            if owners is None or owner["kind"] == owners
        ]
    return [each["metadata"].get("labels", {}) for each in manifests.of_kind(objects, kind)]


def check_containers(line: Line, objects: list[Object]) -> Iterator[str]:
    """Expect the pods that are meant to have the container that is named."""
    for container in line.values("--container"):
        names = {
            each["name"]
            for _, template in pod_specs(objects)
            if all(
                manifests.matches(
                    {"matchLabels": dict(part.split("=") for part in selector.split(","))},
                    template["metadata"]["labels"],
                )
                for selector in line.values("--selector")
            )
            for each in template["spec"].get("initContainers", []) + template["spec"]["containers"]
        }
        if container not in names:
            yield f"no container {container} among {sorted(names)}"


def check_patches(line: Line, objects: list[Object]) -> Iterator[str]:
    """Expect a patch to be JSON, and the object to be valid with it."""
    for patch in line.values("--patch"):
        (target,) = _targets(line)
        try:
            change = json.loads(patch)
        except ValueError as error:
            yield f"{patch} is no JSON: {error}"
            continue
        if target[0] == "Secret":
            base: Object = {"apiVersion": "v1", "kind": "Secret"}
        else:
            base = next(
                each for each in objects if (each["kind"], each["metadata"]["name"]) == target
            )
        try:
            kubernetes_validate.validate(_merged(base, change), NEWEST, strict=True)
        except kubernetes_validate.ValidationError as error:
            yield f"{patch}: {error.message}"


def check_literals(line: Line, objects: list[Object]) -> Iterator[str]:
    """Expect a Secret to be made of what pods read from it."""
    settings = {each.name.upper() for each in fields(AppConfig)}
    referred = {
        value["key"]
        for _, template in pod_specs(objects)
        for _, key, value in manifests.walk(template["spec"])
        if key == "secretKeyRef" and [value["name"]] == line.objects
    }
    for literal in line.values("--from-literal"):
        if literal.partition("=")[0] not in settings | referred:
            yield f"no pod reads {literal.partition('=')[0]}"


def _merged(base: Any, change: Any) -> Any:
    """Apply a merge patch (RFC 7396), without its way to remove."""
    if not (isinstance(base, dict) and isinstance(change, dict)):
        return change
    return base | {key: _merged(base.get(key), value) for key, value in change.items()}


CHECKS: list[Callable[[Line, list[Object]], Iterator[str]]] = [
    check_objects,
    check_labels,
    check_containers,
    check_patches,
    check_literals,
]
