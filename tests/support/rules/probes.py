"""Rules about probes: the path that they ask, and how long they wait before pods are told so."""

from __future__ import annotations

from collections.abc import Iterator

from tests.support.kustomize import Object
from tests.support.rules.pods import ours

PROBES = {
    "web": {"startupProbe": "/health", "livenessProbe": "/health", "readinessProbe": "/ready"},
    "worker": dict.fromkeys(("startupProbe", "livenessProbe", "readinessProbe"), "/health"),
}
# Kubelet's own values for what a probe leaves out.
USUAL = {"periodSeconds": 10, "timeoutSeconds": 1, "failureThreshold": 3, "successThreshold": 1}
START_SECONDS = 60  # a busy node, and a first connection to the database
GIVEN_UP_SECONDS = 600  # a rollout is given up by then
RESTART_SECONDS = 30  # a pause that a busy node brings must not end a process
NOTICE_SECONDS = 30  # a pod that cannot serve must not get requests for longer
LIVENESS_TIMEOUT_SECONDS = 3


def probes(objects: list[Object]) -> Iterator[str]:
    """Expect three probes, of a path that says what kubelet wants to know."""
    for each in ours(objects):
        for kind, path in PROBES.get(each.container["name"], {}).items():
            probe = each.container.get(kind)
            if probe is None:
                yield f"{each.at}: no {kind}"
                continue
            asked = probe.get("httpGet", {})
            if asked.get("path") != path:
                yield f"{each.at}: {kind} asks {asked.get('path')}, not {path}"
            if set(asked) != {"path", "port"}:
                yield f"{each.at}: {kind} says more than path and port: {sorted(asked)}"


def patience(objects: list[Object]) -> Iterator[str]:
    """Expect time to start, a restart for no short pause, and no long wait for readiness."""
    for each in ours(objects):
        for kind in PROBES.get(each.container["name"], {}):
            probe = USUAL | each.container.get(kind, {})
            yield from (f"{each.at}: {kind} {problem}" for problem in _problems(kind, probe))


def _problems(kind: str, probe: Object) -> Iterator[str]:
    window = probe["periodSeconds"] * probe["failureThreshold"]
    if probe["timeoutSeconds"] > probe["periodSeconds"]:
        yield "asks again while it still waits"
    if kind == "startupProbe" and window < START_SECONDS:
        yield f"ends within {START_SECONDS} seconds"
    if kind == "startupProbe" and window > GIVEN_UP_SECONDS:
        yield f"leaves a process that never starts for {window} seconds"
    if kind == "livenessProbe" and window < RESTART_SECONDS:
        yield f"ends a process that pauses for {window} seconds"
    if kind == "livenessProbe" and probe["timeoutSeconds"] < LIVENESS_TIMEOUT_SECONDS:
        yield f"ends a process that is slow for {probe['timeoutSeconds']} seconds"
    if kind == "readinessProbe" and window > NOTICE_SECONDS:
        yield f"leaves requests to a pod that cannot serve, for {window} seconds"
    if kind != "readinessProbe" and probe["successThreshold"] != 1:
        yield "may want one success alone, says the API"


RULES = [probes, patience]
