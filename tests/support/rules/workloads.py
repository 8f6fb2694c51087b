"""Rules about rollouts, scaling, disruptions, schedules, and which pods an object selects."""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Iterator

from tests.support.kustomize import Object, find, pod_specs
from tests.support.manifests import matches, name, of_kind

DEPLOYMENTS = ("cloudnative-app", "cloudnative-app-worker")
KEPT_REVISIONS = 2  # the release before, and the one before that
ROLLOUT_SECONDS = 300  # a migration may hold the first pod up
READY_SECONDS = 60  # each pod of a rollout takes this long
SELECTED = {"app.kubernetes.io/name", "app.kubernetes.io/component"}
# Longer than the cluster takes to look, or a night is missed; and time for all that it deletes.
BEGIN_SECONDS, CLEANUP_SECONDS = 60, 600
RETRIES = 6  # the cluster's own number
# Others change who gets a request: addresses that are not ready, one pod for a client, one node.
SERVICE_KEYS = {"type", "selector", "ports", "clusterIP"}
DAILY = re.compile(r"([0-9]|[1-5][0-9]) ([0-9]|1[0-9]|2[0-3]) \* \* \*")
RESTARTS = {"CronJob": {"Never", "OnFailure"}, "Job": {"Never", "OnFailure"}}
SERVICES = {
    "cloudnative-app": ("ClusterIP", [("http", 80, "http")]),
    "postgresql": ("ClusterIP", [("postgresql", 5432, "postgresql")]),
    "redis": ("ClusterIP", [("redis", 6379, "redis")]),
}
HEADLESS = {"postgresql"}  # of a StatefulSet
UTILISATION = range(30, 96)  # of the request; above it the limit comes first


def rollouts(objects: list[Object]) -> Iterator[str]:
    """Expect rollouts that take one pod away at a time, can end, and can be undone."""
    for each in (find(objects, "Deployment", deployment) for deployment in DEPLOYMENTS):
        spec = each["spec"]
        rolling = spec.get("strategy", {}).get("rollingUpdate", {})
        surge, unavailable = rolling.get("maxSurge"), rolling.get("maxUnavailable")
        if spec.get("strategy", {}).get("type") != "RollingUpdate":
            yield f"{name(each)}: all pods go before the first new one comes"
        if surge not in {0, 1} or unavailable not in {0, 1} or surge == unavailable == 0:
            yield f"{name(each)}: a rollout exchanges {surge} and {unavailable} pods at a time"
        if spec.get("revisionHistoryLimit", 10) < KEPT_REVISIONS:
            yield f"{name(each)}: no release is kept to go back to"
        if not 1 <= spec.get("minReadySeconds", 0) <= READY_SECONDS:
            yield f"{name(each)}: a pod counts after {spec.get('minReadySeconds', 0)} seconds"
        if set(spec["selector"].get("matchLabels", {})) != SELECTED:
            yield f"{name(each)}: no cluster lets a selector change"
        if spec.get("progressDeadlineSeconds", 600) < ROLLOUT_SECONDS:
            yield f"{name(each)}: a rollout that migrates is given up"


def scaling(objects: list[Object]) -> Iterator[str]:
    """Expect one autoscaler, of the web Deployment, by targets that can be reached."""
    for each in of_kind(objects, "HorizontalPodAutoscaler"):
        target = each["spec"]["scaleTargetRef"]
        if (target["kind"], target["name"]) != ("Deployment", DEPLOYMENTS[0]):
            yield f"{name(each)}: scales {target['kind']}/{target['name']}"
        for metric in each["spec"]["metrics"]:
            percent = metric["resource"]["target"]["averageUtilization"]
            if percent not in UTILISATION:
                yield f"{name(each)}: {metric['resource']['name']} of {percent} % is never held"


def budgets(objects: list[Object]) -> Iterator[str]:
    """Expect numbers of pods, of which an eviction may take one."""
    for each in of_kind(objects, "PodDisruptionBudget"):
        for key in ("minAvailable", "maxUnavailable"):
            if not isinstance(each["spec"].get(key, 1), int) or each["spec"].get(key, 1) < 1:
                yield f"{name(each)}: {key} is {each['spec'][key]}"
        if each["spec"].get("unhealthyPodEvictionPolicy") != "AlwaysAllow":
            yield f"{name(each)}: a broken pod keeps its node from being drained"


def evictions(objects: list[Object]) -> Iterator[str]:
    """Expect a drain to find a pod that it may take, where nothing scales their number."""
    for each in of_kind(objects, "PodDisruptionBudget"):
        for owner in of_kind(objects, "Deployment"):
            labels = owner["spec"]["template"]["metadata"]["labels"]
            if "replicas" not in owner["spec"] or not matches(each["spec"]["selector"], labels):
                continue
            if owner["spec"]["replicas"] <= each["spec"].get("minAvailable", 0):
                yield f"{name(each)}: none of {owner['spec']['replicas']} pods may be evicted"


def selections(objects: list[Object]) -> Iterator[str]:
    """Expect Services and budgets to select the pods of the workload of their name alone."""
    for each in of_kind(objects, "Service") + of_kind(objects, "PodDisruptionBudget"):
        given = each["spec"]["selector"]
        selector = {"matchLabels": given} if each["kind"] == "Service" else given
        selected = [
            owner["metadata"]["name"]
            for owner, template in pod_specs(objects)
            if matches(selector, template["metadata"]["labels"])
        ]
        if selected != [each["metadata"]["name"]]:
            yield f"{name(each)}: selects pods of {selected}"


def services(objects: list[Object]) -> Iterator[str]:
    """Expect the ports by the names under which monitors and ways in know them."""
    for each in of_kind(objects, "Service"):
        spec = each["spec"]
        ports = [(port["name"], port["port"], port["targetPort"]) for port in spec["ports"]]
        found = (spec.get("type", "ClusterIP"), ports)
        if found != SERVICES.get(each["metadata"]["name"]):
            yield f"{name(each)}: is {found}"
        if any(port.get("appProtocol", "http") != "http" for port in spec["ports"]):
            yield f"{name(each)}: its pods speak HTTP"
        if unknown := set(spec) - SERVICE_KEYS:
            yield f"{name(each)}: keys that are not expected: {sorted(unknown)}"
        if ("clusterIP" in spec) != (each["metadata"]["name"] in HEADLESS):
            yield f"{name(each)}: leads to pods by name, or by an address of its own"
    names = {each["metadata"]["name"] for each in of_kind(objects, "Service")}
    for each in of_kind(objects, "StatefulSet"):
        if each["spec"]["serviceName"] not in names:
            yield f"{name(each)}: there is no Service {each['spec']['serviceName']}"


def schedules(objects: list[Object]) -> Iterator[str]:
    """Expect the cleanup once a day, at a time that exists, one at a time."""
    for each in of_kind(objects, "CronJob"):
        spec = each["spec"]
        if not DAILY.fullmatch(spec["schedule"]):
            yield f"{name(each)}: {spec['schedule']} is no time of a day"
        if spec.get("timeZone") not in zoneinfo.available_timezones():
            yield f"{name(each)}: there is no time zone {spec.get('timeZone')}"
        if spec.get("suspend"):
            yield f"{name(each)}: never begins"
        if spec.get("concurrencyPolicy") != "Forbid":
            yield f"{name(each)}: a second one begins beside the first"
        seconds = spec["jobTemplate"]["spec"].get("activeDeadlineSeconds", 0)
        if not CLEANUP_SECONDS <= seconds < 24 * 3600:
            yield f"{name(each)}: one that hangs keeps later ones, or is ended at work: {seconds}"
        if not spec.get("failedJobsHistoryLimit", 1) or "ttlSecondsAfterFinished" in str(spec):
            yield f"{name(each)}: a cleanup that failed leaves nothing to look at"
        if spec["jobTemplate"]["spec"].get("backoffLimit", 6) > RETRIES:
            yield f"{name(each)}: one that fails is tried all night"
        if spec.get("startingDeadlineSeconds", BEGIN_SECONDS) < BEGIN_SECONDS:
            yield f"{name(each)}: the cluster looks too late to begin it"


def restarts(objects: list[Object]) -> Iterator[str]:
    """Expect a restartPolicy that the kind of the workload may have."""
    for owner, template in pod_specs(objects):
        policy = template["spec"].get("restartPolicy", "Always")
        if policy not in RESTARTS.get(owner["kind"], {"Always"}):
            yield f"{name(owner)}: a {owner['kind']} may not have restartPolicy {policy}"


RULES = [rollouts, scaling, budgets, evictions, selections, services, schedules, restarts]
