"""The manifests agree with the image and the code; test_planted_faults.py has the rules."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from app import create_app
from config import AppConfig
from tests.support import kustomize, manifests
from tests.support.kustomize import find
from tests.support.manifests import ROOT, of_kind
from tests.support.rules.all import findings
from tests.support.rules.environment import SECRETS
from tests.support.rules.pods import ours

OVERLAYS = ROOT / "k8s" / "overlays"
EXAMPLES = sorted((ROOT / "k8s" / "examples").glob("*.yaml"))
OF_CALLERS = {"istio.yaml"}  # for services that are called with tokens of ours, in their namespace

PORTS_OUT = {
    "web": {53, 5432, 6379, 4317, 4318, 443},
    "worker": {53, 5432, 6379, 4317, 4318, 443},
    "cleanup": {53, 5432},
}


@pytest.fixture(params=["development", "production"])
def overlay(request):
    """The manifests that an overlay renders."""
    return kustomize.render(OVERLAYS / request.param)


@pytest.fixture
def production():
    """The manifests that the production overlay renders."""
    return kustomize.render(OVERLAYS / "production")


def dockerfile():
    return (ROOT / "Dockerfile").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["development", "production"])
def test_kustomize_renders_the_same(name):
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("needs kubectl")
    result = subprocess.run(
        [kubectl, "kustomize", OVERLAYS / name], capture_output=True, text=True, check=False
    )
    if "unknown field" in result.stderr:
        pytest.skip("needs a newer kubectl")

    assert result.returncode == 0, result.stderr
    assert comparable(kustomize.load(result.stdout)) == comparable(
        kustomize.render(OVERLAYS / name)
    )


def comparable(objects):
    """Return objects by name, without the hash in names of ConfigMaps."""
    text = re.sub(r"(cloudnative-app-config)-\w{10}\b", r"\1", yaml.safe_dump(objects))
    return {manifests.name(each): each for each in yaml.safe_load(text)}


def test_probes_and_scrapes_ask_for_routes_that_exist(overlay):
    routes = {rule.rule for rule in create_app(AppConfig(redis_url="")).url_map.iter_rules()}

    for _, template in kustomize.pod_specs(overlay):
        asked = {
            value["path"] for _, key, value in manifests.walk(template["spec"]) if key == "httpGet"
        }
        path = template["metadata"].get("annotations", {}).get("prometheus.io/path")
        assert asked | ({path} if path else set()) <= routes


def test_an_eviction_takes_one_pod_at_a_time_and_a_crash_leaves_one(production):
    scaler = find(production, "HorizontalPodAutoscaler", "cloudnative-app")["spec"]
    budget = find(production, "PodDisruptionBudget", "cloudnative-app")["spec"]
    worker = find(production, "Deployment", "cloudnative-app-worker")["spec"]

    assert budget["minAvailable"] == scaler["minReplicas"] - 1 >= 2
    assert budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow"  # or nodes could not be drained
    assert worker["replicas"] >= 2


def test_pods_come_before_their_limits_are_reached_and_go_more_slowly_than_they_come(production):
    scaler = find(production, "HorizontalPodAutoscaler", "cloudnative-app")["spec"]
    targets = {
        each["resource"]["name"]: each["resource"]["target"]["averageUtilization"]
        for each in scaler["metrics"]
    }
    (pod,) = (
        each.container["resources"] for each in ours(production) if each.container["name"] == "web"
    )
    up, down = (scaler["behavior"][way] for way in ("scaleUp", "scaleDown"))

    assert targets == {"cpu": 70, "memory": 80}  # of the requests; see docs/operations.md
    assert (pod["requests"]["cpu"], pod["requests"]["memory"]) == ("250m", "256Mi")
    assert scaler["maxReplicas"] >= 4 * scaler["minReplicas"]
    assert up["selectPolicy"] == "Max"
    assert down["stabilizationWindowSeconds"] >= 5 * up["stabilizationWindowSeconds"] > 0
    assert percent_a_minute(down) == 10
    assert percent_a_minute(up) == 100


def percent_a_minute(behaviour):
    """Return by how much the number of pods may change in a minute."""
    return sum(
        each["value"] * 60 / each["periodSeconds"]
        for each in behaviour["policies"]
        if each["type"] == "Percent"
    )


@pytest.mark.parametrize("name", ["cloudnative-app", "cloudnative-app-worker"])
def test_a_node_or_a_zone_that_fails_does_not_take_all_pods_along(overlay, name):
    deployment = find(overlay, "Deployment", name)["spec"]
    pod = deployment["template"]["spec"]
    (apart,) = pod["affinity"]["podAntiAffinity"].values()
    spread = [
        *((each["podAffinityTerm"]["topologyKey"], each["podAffinityTerm"]) for each in apart),
        *((each["topologyKey"], each) for each in pod["topologySpreadConstraints"]),
    ]

    assert [key for key, _ in spread] == ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
    assert [each["labelSelector"] for _, each in spread] == [deployment["selector"]] * 2
    # A wish: on one node, and during the failure, pods must still find a place.
    assert {*pod["affinity"]["podAntiAffinity"]} == {
        "preferredDuringSchedulingIgnoredDuringExecution"
    }
    assert pod["topologySpreadConstraints"][0]["whenUnsatisfiable"] == "ScheduleAnyway"


def test_users_and_ports_are_those_of_the_image(overlay):
    _, _, runtime = dockerfile().rpartition("\nFROM ")
    (user,) = re.findall(r"^USER (\d+):\1$", runtime, re.MULTILINE)
    (port,) = re.findall(r"^EXPOSE (\d+)$", runtime, re.MULTILINE)

    for each in ours(overlay):
        context = each.template["spec"]["securityContext"]
        assert {context["runAsUser"], context["runAsGroup"], context["fsGroup"]} == {int(user)}
        if each.container["name"] == "web":
            assert each.container["ports"][0]["containerPort"] == int(port)


def test_the_image_is_healthy_whatever_is_away():
    (command,) = re.findall(r"^HEALTHCHECK .*\\\n *CMD (\[.*\])$", dockerfile(), re.MULTILINE)
    script = Path(json.loads(command)[-1])

    assert script.parent == Path("/app")
    assert '"/health"' in (ROOT / script.name).read_text(encoding="utf-8")


def test_the_image_installs_nothing_but_what_the_hashes_name():
    installs = re.findall(r"\bpip\b[^&]*? install [^&]*?--requirement", dockerfile())

    assert len(installs) == 2
    assert all(" --require-hashes " in each for each in installs)


def test_nothing_enters_the_image_that_is_not_named():
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    all_else, *rules = [line for line in lines if line and not line.startswith("#")]
    named = [rule.removeprefix("!") for rule in rules if rule.startswith("!")]

    assert all_else == "*"
    assert [each for each in named if not (ROOT / each).exists()] == []
    assert [each for each in named if each.startswith(".")] == [".github"]
    assert [each for each in named if "*" in each] == []
    assert rules[-1] == "**/*.db"  # the last rule that fits counts


def test_memory_for_passwords_goes_back_to_the_system():
    (threshold,) = re.findall(r"\bMALLOC_MMAP_THRESHOLD_=(\d+)", dockerfile())

    assert int(threshold) < AppConfig(redis_url="").password_memory_kib * 1024


@pytest.mark.parametrize("component", PORTS_OUT)
def test_nothing_goes_out_but_to_what_the_service_uses(overlay, component):
    labels = {
        "app.kubernetes.io/name": "cloudnative-app",
        "app.kubernetes.io/component": component,
    }
    rules = [
        rule
        for policy in of_kind(overlay, "NetworkPolicy")
        if manifests.matches(policy["spec"]["podSelector"], labels)
        for rule in policy["spec"].get("egress", [])
    ]
    ports = [(port["protocol"], port["port"]) for rule in rules for port in rule["ports"]]

    assert {number for _, number in ports} == PORTS_OUT[component]
    assert [protocol for protocol, number in ports if number == 53] == ["UDP", "TCP"]
    assert {protocol for protocol, number in ports if number != 53} == {"TCP"}


def set_base64(objects):
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}}
    return kustomize.dump([*objects, secret | {"data": {"API_KEY": "not base64!"}}])


def repeat_a_key(objects):
    text = kustomize.dump(objects)
    assert text.count("maxReplicas: 20") == 1
    return text.replace("maxReplicas: 20", "maxReplicas: 20\n  maxReplicas: 20")


@pytest.mark.parametrize(
    ("write", "finding"),
    [(set_base64, "API_KEY is not base64"), (repeat_a_key, "is there twice")],
)
def test_a_fault_of_the_text_is_found(production, write, finding):
    """All others are planted into objects, in test_planted_faults.py."""
    text = write(production)

    try:
        found = list(findings(kustomize.load(text)))
    except ValueError as error:
        found = [str(error)]

    assert [each for each in found if finding in each] != []


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.name)
def test_an_example_has_no_fault(file, production):
    example = kustomize.load(file.read_text(encoding="utf-8"))
    objects = [*production, *example]
    foreign = [each for each in example if "." in each["apiVersion"].replace(".k8s.io/v1", "")]
    checks = set(manifests.CHECKS) - {manifests.check_schema}
    if file.name in OF_CALLERS:
        checks -= {manifests.check_namespace}

    assert [problem for check in checks for problem in check(objects)] == []
    assert list(manifests.check_schema([each for each in example if each not in foreign])) == []


def test_examples_name_nothing_outside_that_another_service_would_have_as_well():
    folder = EXAMPLES[0].parent
    (secret,) = kustomize.load((folder / "external-secret.yaml").read_text())
    (route,) = kustomize.load((folder / "httproute.yaml").read_text())
    (ingress,) = kustomize.load((folder / "ingress.yaml").read_text())
    own = secret["metadata"]["namespace"]

    names = [
        *(each["remoteRef"]["key"] for each in secret["spec"]["data"]),
        *route["spec"]["hostnames"],
        *(each["host"] for each in ingress["spec"]["rules"]),
        *(host for each in ingress["spec"]["tls"] for host in (each["secretName"], *each["hosts"])),
    ]

    assert len(names) > len(SECRETS)
    assert [each for each in names if not each.startswith(own)] == []


def test_every_alert_is_explained():
    rules = ROOT / "monitoring" / "alerts.yaml"
    if not rules.exists():
        pytest.skip("monitoring/alerts.yaml is not there yet")
    explained = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")

    alerts = re.findall(r"^ *- alert: (\w+)$", rules.read_text(encoding="utf-8"), re.MULTILINE)
    assert [each for each in alerts if f"`{each}`" not in explained] == []
