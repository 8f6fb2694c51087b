"""The manifests agree with the code's expectations, and the checks find each known fault."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from app import create_app
from config import AppConfig
from tests.support import kustomize, manifests
from tests.support.kustomize import find
from tests.support.manifests import ROOT, of_kind

OVERLAYS = ROOT / "k8s" / "overlays"
EXAMPLES = sorted((ROOT / "k8s" / "examples").glob("*.yaml"))
OF_CALLERS = {"istio.yaml"}  # for services that are called with tokens of ours, in their namespace

# The values for `kubectl create secret`, see docs/operations.md.
SECRETS = {
    "API_KEY": "k" * 32,
    "JWT_SECRET": "s" * 32,
    "DATABASE_URL": "postgresql://app:password@postgresql:5432/app",
    "REDIS_URL": "redis://redis:6379",
}
SETTINGS = {each.name.upper(): each for each in fields(AppConfig)}
PORTS_OUT = {
    "web": {53, 5432, 6379, 4317, 4318, 443},
    "worker": {53, 5432, 6379, 4317, 4318, 443},
    "cleanup": {53, 5432},
}
PROBES = {
    "web": {"startupProbe": "/health", "livenessProbe": "/health", "readinessProbe": "/ready"},
    "worker": dict.fromkeys(("startupProbe", "livenessProbe", "readinessProbe"), "/health"),
}
# The private networks, and the one of a cloud's metadata service.
INSIDE = {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"}


@pytest.fixture(params=["development", "production"])
def overlay(request):
    """The manifests that an overlay renders."""
    return kustomize.render(OVERLAYS / request.param)


@pytest.fixture
def production():
    """The manifests that the production overlay renders."""
    return kustomize.render(OVERLAYS / "production")


def ours(objects):
    """Yield the component, pod and each container of our image."""
    for _, template in kustomize.pod_specs(objects):
        spec = template["spec"]
        for container in [*spec.get("initContainers", []), *spec["containers"]]:
            if manifests.OUR_IMAGE in container["image"]:
                yield template["metadata"]["labels"]["app.kubernetes.io/component"], spec, container


def environment(objects, container):
    """Return the variables of a container; what the cluster fills in is made up."""
    given: dict[str, str] = {}
    for source in container["envFrom"]:
        if "configMapRef" in source:
            given |= find(objects, "ConfigMap", source["configMapRef"]["name"])["data"]
        else:
            given |= SECRETS
    return given | {each["name"]: each.get("value", "x") for each in container.get("env", [])}


def dockerfile():
    return (ROOT / "Dockerfile").read_text(encoding="utf-8")


def test_an_overlay_has_no_fault(overlay):
    assert manifests.problems(overlay) == []


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


def test_every_variable_is_one_that_the_code_reads(overlay):
    files = {f"{name}_FILE" for name, each in SETTINGS.items() if each.metadata["secret"]}
    known = SETTINGS.keys() | files

    for _, spec, container in ours(overlay):
        assert spec["enableServiceLinks"] is False  # else each Service adds seven variables
        unknown = {
            name
            for name in environment(overlay, container)
            if name not in known and not name.startswith("OTEL_")
        }
        assert unknown == set()


def test_secrets_are_never_in_the_config_map(overlay):
    secret = {name for name, each in SETTINGS.items() if each.metadata["secret"]}

    for each in of_kind(overlay, "ConfigMap"):
        assert each["data"].keys() & secret == set()


def test_every_process_accepts_its_environment(overlay):
    for _, spec, container in ours(overlay):
        config = AppConfig.from_env(environment(overlay, container))

        assert config.termination_grace_seconds == spec["terminationGracePeriodSeconds"]
        assert config.stop_budget.drain_seconds == 5
        assert config.stop_budget.finish_seconds > 10
        assert "lifecycle" not in container  # a preStop would take from the same seconds


def test_production_is_production(production):
    for _, _, container in ours(production):
        assert AppConfig.from_env(environment(production, container)).environment == "production"


def test_every_process_runs_a_command_that_exists(overlay):
    commands = {
        (component, container["name"]): container["command"]
        for component, _, container in ours(overlay)
    }

    migrate = ["python", "app.py", "admin", "migrate"]
    assert commands == {
        ("web", "migrate"): migrate,
        ("web", "web"): ["python", "app.py"],
        ("worker", "migrate"): migrate,
        ("worker", "worker"): ["python", "app.py", "worker"],
        ("cleanup", "cleanup"): ["python", "app.py", "admin", "cleanup", "--days", "30"],
    }


def test_the_web_port_is_the_one_that_the_code_binds(overlay):
    for component, _, container in ours(overlay):
        if container["name"] == "web":
            config = AppConfig.from_env(environment(overlay, container))
            assert [port["containerPort"] for port in container["ports"]] == [config.port]
        if component == container["name"] == "worker":
            given = environment(overlay, container)["WORKER_METRICS_PORT"]
            assert [str(port["containerPort"]) for port in container["ports"]] == [given]


def test_probes_and_scrapes_ask_for_routes_that_exist(overlay):
    routes = {rule.rule for rule in create_app(AppConfig(redis_url="")).url_map.iter_rules()}

    for _, template in kustomize.pod_specs(overlay):
        asked = {
            value["path"] for _, key, value in manifests.walk(template["spec"]) if key == "httpGet"
        }
        path = template["metadata"].get("annotations", {}).get("prometheus.io/path")
        assert asked | ({path} if path else set()) <= routes


def test_no_pod_is_restarted_for_what_is_away_and_none_serves_without_it(overlay):
    asked = {
        container["name"]: {
            key: value["httpGet"]["path"]
            for key, value in container.items()
            if key.endswith("Probe")
        }
        for _, _, container in ours(overlay)
    }

    assert {name: paths for name, paths in asked.items() if paths} == PROBES


def test_a_rollout_takes_down_one_pod_at_a_time(overlay):
    for name in ("cloudnative-app", "cloudnative-app-worker"):
        strategy = find(overlay, "Deployment", name)["spec"]["strategy"]
        assert strategy["rollingUpdate"]["maxUnavailable"] in {0, 1}


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
    (pod,) = (each["resources"] for _, _, each in ours(production) if each["name"] == "web")
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


def test_one_cleanup_runs_at_a_time(overlay):
    cleanup = find(overlay, "CronJob", "cloudnative-app-cleanup")

    assert cleanup["spec"]["concurrencyPolicy"] == "Forbid"
    # Without an end, one that hangs would keep all later ones from starting.
    assert 0 < cleanup["spec"]["jobTemplate"]["spec"]["activeDeadlineSeconds"] < 24 * 3600


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


def test_a_check_of_readiness_ends_before_its_probe_does(overlay):
    for _, _, container in ours(overlay):
        if container["name"] == "web":
            config = AppConfig.from_env(environment(overlay, container))
            assert config.ready_timeout_seconds < container["readinessProbe"]["timeoutSeconds"]


def test_users_and_ports_are_those_of_the_image(overlay):
    _, _, runtime = dockerfile().rpartition("\nFROM ")
    (user,) = re.findall(r"^USER (\d+):\1$", runtime, re.MULTILINE)
    (port,) = re.findall(r"^EXPOSE (\d+)$", runtime, re.MULTILINE)

    for _, spec, container in ours(overlay):
        context = spec["securityContext"]
        assert {context["runAsUser"], context["runAsGroup"], context["fsGroup"]} == {int(user)}
        if container["name"] == "web":
            assert container["ports"][0]["containerPort"] == int(port)


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


def test_only_tmp_can_be_written_to(overlay):
    for _, _, container in ours(overlay):
        assert [each["mountPath"] for each in container["volumeMounts"]] == ["/tmp"]


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


def test_nothing_goes_everywhere_but_to_the_outside(overlay):
    blocks = [
        value
        for policy in of_kind(overlay, "NetworkPolicy")
        for _, key, value in manifests.walk(policy["spec"])
        if key == "ipBlock"
    ]
    everywhere = [block for block in blocks if block["cidr"].endswith("/0")]

    assert everywhere != []
    assert all(set(block["except"]) >= INSIDE for block in everywhere)


def test_the_collector_that_is_configured_can_be_reached(production):
    for component, _, container in ours(production):
        endpoint = environment(production, container)["OTEL_EXPORTER_OTLP_ENDPOINT"]
        assert int(endpoint.rpartition(":")[2]) in PORTS_OUT["web"]
        assert component in PORTS_OUT


def test_the_connections_of_all_pods_fit_into_what_the_docs_ask_for(production):
    config = AppConfig.from_env(environment(production, next(ours(production))[2]))
    each_process = config.database_pool_size + config.database_max_overflow
    rollout = 1 + 2  # maxSurge, and as many again as maxSurge and maxUnavailable, still stopping
    pods = of_kind(production, "HorizontalPodAutoscaler")[0]["spec"]["maxReplicas"] + rollout
    workers = find(production, "Deployment", "cloudnative-app-worker")["spec"]["replicas"] + rollout
    needed = (pods * config.web_concurrency + workers) * each_process
    needed += 2 * 2  # one migration waits with two connections, one cleanup likewise

    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")

    assert f"= {needed} connections" in text


def plant(objects, kind, name, change):
    """Return the overlay as text, with one object changed."""
    change(find(objects, kind, name))
    return kustomize.dump(objects)


def web(change):
    """Plant a fault into the web Deployment."""
    return lambda objects: plant(objects, "Deployment", "cloudnative-app", change)


def container_of(deployment):
    return deployment["spec"]["template"]["spec"]["containers"][0]


def misspell(deployment):
    context = container_of(deployment)["securityContext"]
    context["readOnlyRootFileSystem"] = context.pop("readOnlyRootFilesystem")


def set_base64(objects):
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}}
    return kustomize.dump([*objects, secret | {"data": {"API_KEY": "not base64!"}}])


def repeat_a_key(objects):
    text = kustomize.dump(objects)
    assert text.count("maxReplicas: 20") == 1
    return text.replace("maxReplicas: 20", "maxReplicas: 20\n  maxReplicas: 20")


FAULTS = {
    "a misspelt field": (web(misspell), "readOnlyRootFileSystem"),
    "a string for an integer": (
        web(lambda each: each["spec"].update(replicas="3")),
        "'3' is not of type 'integer'",
    ),
    "no selector": (web(lambda each: each["spec"].pop("selector")), "'selector' is a required"),
    "a number in a ConfigMap": (
        lambda objects: plant(
            objects,
            "ConfigMap",
            of_kind(objects, "ConfigMap")[0]["metadata"]["name"],
            lambda each: each["data"].update(PORT=8080),
        ),
        "8080 is not of type 'string'",
    ),
    "an apiVersion that is gone": (
        lambda objects: plant(
            objects,
            "PodDisruptionBudget",
            "cloudnative-app",
            lambda each: each.update(apiVersion="policy/v1beta1"),
        ),
        "there is no policy/v1beta1",
    ),
    "bad base64": (set_base64, "API_KEY is not base64"),
    "a bad quantity": (
        web(lambda each: container_of(each)["resources"]["limits"].update(memory="512Mbi")),
        "is no quantity: 512Mbi",
    ),
    "an unknown protocol": (
        web(lambda each: container_of(each)["ports"][0].update(protocol="HTTP")),
        "not HTTP",
    ),
    "a selector beside its labels": (
        web(lambda each: each["spec"]["selector"]["matchLabels"].update(app="other")),
        "does not match the template's labels",
    ),
    "a budget with both limits": (
        lambda objects: plant(
            objects,
            "PodDisruptionBudget",
            "cloudnative-app",
            lambda each: each["spec"].update(maxUnavailable=1),
        ),
        "needs one of minAvailable and maxUnavailable",
    ),
    "an autoscaler upside down": (
        lambda objects: plant(
            objects,
            "HorizontalPodAutoscaler",
            "cloudnative-app",
            lambda each: each["spec"].update(minReplicas=21),
        ),
        "minReplicas above maxReplicas",
    ),
    "a mount without a volume": (
        web(lambda each: each["spec"]["template"]["spec"].pop("volumes")),
        "no volume is named tmp",
    ),
    "a key that is there twice": (repeat_a_key, "is there twice"),
    "a target port that nobody has": (
        lambda objects: plant(
            objects,
            "Service",
            "cloudnative-app",
            lambda each: each["spec"]["ports"][0].update(targetPort="web"),
        ),
        "no container has a port named web",
    ),
    "a service account that is not there": (
        web(lambda each: each["spec"]["template"]["spec"].update(serviceAccountName="nope")),
        "there is no ServiceAccount nope",
    ),
    # Faults that no common tool looks for.
    "replicas beside an autoscaler": (
        web(lambda each: each["spec"].update(replicas=3)),
        "replicas beside an autoscaler",
    ),
    "everywhere as a destination": (
        lambda objects: plant(
            objects,
            "NetworkPolicy",
            "cloudnative-app-egress",
            lambda each: each["spec"]["egress"][0].update(to=[]),
        ),
        "must say who and which port",
    ),
    "a namespace label that nothing sets": (
        lambda objects: plant(
            objects,
            "NetworkPolicy",
            "cloudnative-app-worker",
            lambda each: each["spec"]["ingress"][0]["from"][0]["namespaceSelector"].update(
                matchLabels={"name": "monitoring"}
            ),
        ),
        "a namespace may not have the labels",
    ),
    "a container that may gain privileges": (
        web(
            lambda each: each["spec"]["template"]["spec"]["initContainers"][0].pop(
                "securityContext"
            )
        ),
        "migrate privileges",
    ),
    "an init container of another version": (
        web(
            lambda each: each["spec"]["template"]["spec"]["initContainers"][0].update(
                image="cloudnative-user-api:other"
            )
        ),
        "must run the same image",
    ),
    "a Secret that nobody makes": (
        web(lambda each: container_of(each)["envFrom"][1]["secretRef"].update(name="other")),
        "names what does not exist: other",
    ),
    "a probe of a port that is not there": (
        web(lambda each: container_of(each)["livenessProbe"]["httpGet"].update(port="web")),
        "is no port of this container",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found(production, fault):
    planted, finding = FAULTS[fault]
    text = planted(production)

    try:
        found = manifests.problems(kustomize.load(text))
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


def test_an_example_makes_the_secret_that_the_pods_read():
    (example,) = kustomize.load((EXAMPLES[0].parent / "external-secret.yaml").read_text())

    keys = {each["secretKey"] for each in example["spec"]["data"]}
    assert example["spec"]["target"]["name"] in manifests.SECRETS
    assert keys >= SECRETS.keys()
    assert {key for key in keys if not SETTINGS[key].metadata["secret"]} == set()


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
