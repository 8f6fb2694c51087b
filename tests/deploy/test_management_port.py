"""The component for a management port, taken into an overlay as its comment says."""

from __future__ import annotations

import shutil
import subprocess

import pytest
import yaml

from app import create_app
from config import AppConfig
from tests.support import kustomize
from tests.support.kustomize import find
from tests.support.manifests import ROOT
from tests.support.rules.all import findings

COMPONENT = "../../components/management-port"
WEB = "cloudnative-app"


@pytest.fixture(params=["development", "production"])
def overlay(request, tmp_path):
    """The folder of an overlay that takes the component in."""
    shutil.copytree(ROOT / "k8s", tmp_path / "k8s")
    folder = tmp_path / "k8s" / "overlays" / request.param
    with (folder / "kustomization.yaml").open("a", encoding="utf-8") as plan:
        plan.write(f"components:\n  - {COMPONENT}\n")
    return folder


@pytest.fixture
def objects(overlay):
    """All objects that it renders."""
    return kustomize.render(overlay)


def container_of(objects):
    (container,) = find(objects, "Deployment", WEB)["spec"]["template"]["spec"]["containers"]
    return container


def peers(policy):
    """Return port -> the namespaces that may call it."""
    return {
        port["port"]: {
            peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
            for peer in rule["from"]
            if "namespaceSelector" in peer
        }
        for rule in policy["spec"]["ingress"]
        for port in rule["ports"]
    }


def test_it_has_no_fault_but_for_what_it_changes(objects):
    """The rules are about overlays without the component; each of its changes is one finding."""
    assert sorted(each.partition(":")[0] for each in findings(objects)) == [
        "connections",  # Prometheus reaches the API no longer
        "expected_objects",  # the policy of the port is new
        "processes",  # the pods listen on both ports
        "scrapes",  # the scrape goes to the new one
        "services",  # as does the ServiceMonitor
    ]


def test_the_comment_says_how_it_is_taken_in():
    text = (ROOT / "k8s/components/management-port/kustomization.yaml").read_text(encoding="utf-8")

    assert f"#   components:\n#     - {COMPONENT}\n" in text


def test_probes_and_scrapes_ask_the_port_that_the_code_binds(objects):
    container = container_of(objects)
    port = container["env"][-1]["value"]
    config = AppConfig(redis_url="", management_port=port)
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    template = find(objects, "Deployment", WEB)["spec"]["template"]
    asked = {value["httpGet"]["port"] for key, value in container.items() if key.endswith("Probe")}

    assert container["env"][-1]["name"] == "MANAGEMENT_PORT"
    assert ports == {"http": config.port, "management": config.management_port}
    assert asked == {"management"}
    assert template["metadata"]["annotations"]["prometheus.io/port"] == port
    assert create_app(config).url_map is not None


def test_only_prometheus_reaches_the_port_and_only_callers_reach_the_api(objects):
    web = peers(find(objects, "NetworkPolicy", "cloudnative-app-web"))
    management = peers(find(objects, "NetworkPolicy", "cloudnative-app-management"))

    assert management == {"management": {"monitoring"}}
    assert "ingress-nginx" in web["http"]
    assert "monitoring" not in web["http"]


def test_the_service_has_a_port_for_a_monitor_beside_that_of_callers(objects):
    ports = find(objects, "Service", WEB)["spec"]["ports"]

    assert [each["name"] for each in ports] == ["http", "management"]
    assert [each["targetPort"] for each in ports] == ["http", "management"]


def test_kustomize_renders_the_same(overlay, objects):
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("needs kubectl")
    result = subprocess.run(
        [kubectl, "kustomize", overlay], capture_output=True, text=True, check=False
    )
    if "unknown field" in result.stderr:
        pytest.skip("needs a newer kubectl")

    assert result.returncode == 0, result.stderr
    rendered = kustomize.load(result.stdout)
    for kind, name in (
        ("Deployment", WEB),
        ("Service", WEB),
        ("NetworkPolicy", "cloudnative-app-web"),
        ("NetworkPolicy", "cloudnative-app-management"),
    ):
        assert spec_of(rendered, kind, name) == spec_of(objects, kind, name)


def spec_of(objects, kind, name):
    """Return a specification as text, without the hash in names of ConfigMaps."""
    lines = yaml.safe_dump(find(objects, kind, name)["spec"]).splitlines()
    return [line for line in lines if "cloudnative-app-config-" not in line]
